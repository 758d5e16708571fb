"""Generation: prompts answered in batches or streamed.

One plain sampling loop instead of `generate()`, for three promises: a batch answers what each prompt alone would be answered, an
answer depends on its own prompt and the seed only, and nothing outside is touched (torch's random state, the model's mode, its
`use_cache`), so that answering curated prompts in the middle of training changes no curve.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pipeline.modeling.decoding import decoder, honours_left_padding
from pipeline.system.out_of_memory import OutOfMemory, in_halves, unless_short, while_there_is_room

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer


@dataclass(frozen=True)
class Narrowing:
    """Which tokens an answer is drawn from, beyond how likely the model finds them.

    Attributes:
        top_k: only so many of the likeliest; 0 for all.
        top_p: only the likeliest that together have this probability (Holtzman et al. 2020, §3.1); 1 for all.
        repetition_penalty: by which the logit of a token that stands in prompt or answer already is lowered (Keskar et al. 2019,
            §4.1); 1 for not at all.
    """

    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0


ALL_TOKENS = Narrowing()
# Prompts answered at once: enough to use the device, few enough for their caches to fit beside a model that trains.
_BATCH = 16
_INVALID = "�"  # what a decoder writes for bytes that are no character, or not yet one


def generate_batch(
    model: Any,
    tokenizer: ChatTokenizer,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    *,
    keep_special: bool = False,
    on_token: Callable[[int], object] = lambda _: None,
    narrowing: Narrowing = ALL_TOKENS,
) -> list[str]:
    """Answer every prompt; texts in the order of the prompts, without the token that ended them.

    Args:
        model: a causal model of transformers, with peft around it or without. Its mode, cache setting and generators stay.
        prompts: token ids as `ChatTokenizer.encode_prompt` makes them, each at least one.
        max_new_tokens: an answer is cut off here.
        temperature: the logits are divided by it; 0 always takes the likeliest token.
        seed: with a temperature, the same seed and prompt give the same draws whatever else is in the batch.
        keep_special: write control tokens that the model produced in mid-answer instead of hiding them.
        on_token: called at each token with how many answers are whole; may raise to end them all.
        narrowing: which tokens are taken.

    Raises:
        OutOfMemory: there is no room to answer one prompt alone; fewer together are tried first.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # neighbours in length pad each other least
    answers = [""] * len(prompts)

    whole = 0  # answers

    def ids_of(batch: Sequence[int]) -> list[list[int]]:
        nonlocal whole
        ids: list[list[int]] = [[] for _ in batch]
        for column in _tokens(model, tokenizer, [prompts[i] for i in batch], max_new_tokens, temperature, seed, narrowing):
            on_token(whole + column.count(None))
            for row, token in enumerate(column):
                if token is not None:
                    ids[row].append(token)
        whole += len(batch)
        return ids

    most = _most_at_once(model, prompts)
    for start in range(0, len(order), most):
        batch = order[start : start + most]
        answered = in_halves(batch, ids_of, lambda i: answer_fault(len(prompts[i]), max_new_tokens))
        for i, answer in zip(batch, answered, strict=True):
            answers[i] = tokenizer.decode(answer, keep_special=keep_special)
    return answers


def _most_at_once(model: Any, prompts: Sequence[Sequence[int]]) -> int:
    """Prompts in a batch: one where they would be padded and nothing shows that the model leaves padding out."""
    if len({len(prompt) for prompt in prompts}) < 2:
        return _BATCH
    # Without room for the proof nothing is known, and the next call asks again.
    return _BATCH if unless_short(lambda: honours_left_padding(model)) is True else 1


def stream(
    model: Any,
    tokenizer: ChatTokenizer,
    prompt: Sequence[int],
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    on_token: Callable[[], object] = lambda: None,
    narrowing: Narrowing = ALL_TOKENS,
) -> Iterator[str]:
    """One answer piece by piece; joined, the pieces are what `generate_batch` returns.

    A piece never ends inside a character of several bytes and keeps the space before its word.

    Args:
        prompt: token ids, at least one; the rest as for `generate_batch`.
        on_token: called at each token, also while the text it belongs to is held back; may raise to end the answer.

    Raises:
        OutOfMemory: there is no room for the prompt or the rest of the answer.
    """
    columns = _tokens(model, tokenizer, [prompt], max_new_tokens, temperature, seed, narrowing)
    tokens = _watched(while_there_is_room(columns, lambda: answer_fault(len(prompt), max_new_tokens)), on_token)
    yield from pieces(tokenizer, (token for token in tokens if token is not None))


def _watched(columns: Iterator[list[int | None]], on_token: Callable[[], object]) -> Iterator[int | None]:
    for column in columns:
        on_token()
        yield column[0]


def pieces(tokenizer: ChatTokenizer, ids: Iterator[int]) -> Iterator[str]:
    """The text of `ids` as they come, each part held back while what follows could still change it."""
    # Always the whole answer is decoded: a word piece alone loses its space, a byte alone is no character. Where bytes stand for
    # unknown characters, a wrong one spoils the whole run before it; a part is final when a wrong byte would not touch it.
    wrong = _wrong_byte(tokenizer)
    seen: list[int] = []
    yielded = ""
    for token in ids:
        seen.append(token)
        text = tokenizer.decode(seen)
        final = not text.endswith(_INVALID) and tokenizer.decode([*seen, *wrong]).startswith(text)
        if final and len(text) > len(yielded):
            yield text[len(yielded) :]
            yielded = text
    rest = tokenizer.decode(seen)[len(yielded) :]
    if rest:
        yield rest


def _wrong_byte(tokenizer: ChatTokenizer) -> list[int]:
    """A token that is one byte of a longer character, or nothing where the vocabulary has none (bytes come first in it)."""
    first = range(min(tokenizer.vocabulary_size, 2000))
    return next(([token] for token in first if tokenizer.decode([token]) == _INVALID), [])


def user_prompt(tokenizer: ChatTokenizer, text: str, system: str = "") -> list[int]:
    """Token ids of a conversation that a user has just begun: the same in training's samples, evaluation and `infer`.

    Args:
        text: of the user's first message.
        system: of a message before it; none where empty.
    """
    from pipeline.tokenization.messages import Message

    messages = [Message(role="system", content=system)] if system else []
    return tokenizer.encode_prompt([*messages, Message(role="user", content=text)])


# ------------------------------------------------------------------------------------------------- the loop


def _tokens(
    model: Any,
    tokenizer: ChatTokenizer,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float,
    seed: int,
    narrowing: Narrowing = ALL_TOKENS,
) -> Iterator[list[int | None]]:
    """New tokens column by column; None in a row whose answer has ended."""
    device = next(model.parameters()).device
    steps = decoder(model, *_left_padded(prompts, tokenizer.pad_id, device), max_new_tokens)
    generators = [_generator(seed, prompt) for prompt in prompts]
    ended = [False] * len(prompts)
    # Only a penalty asks what stands there already.
    seen = [set(prompt) for prompt in prompts] if narrowing.repetition_penalty != 1 else []
    logits = steps.first()  # (prompts, vocabulary) float32
    for left in reversed(range(max_new_tokens)):
        # A model whose logits are no numbers has nothing to add: its answer stays as short as it is.
        broken = torch.isnan(logits).any(1).tolist()
        chosen = _choose(_narrowed(logits, temperature, seen, narrowing), temperature, generators)  # (prompts,) int64
        ids = chosen.tolist()
        for row, each in enumerate(seen):
            each.add(ids[row])
        ended = [done or bad or t in tokenizer.stop_ids for done, bad, t in zip(ended, broken, ids, strict=True)]
        if all(ended):
            return
        yield [None if done else token for done, token in zip(ended, ids, strict=True)]
        if left:
            logits = steps.after(chosen)


def _generator(seed: int, prompt: Sequence[int]) -> torch.Generator:
    """Draws that depend on the seed and the prompt, so that prompts side by side don't draw in step."""
    digest = hashlib.sha256(f"{seed}:{list(prompt)}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _left_padded(prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask), both (prompts, longest prompt); the mask is made from lengths, for the pad id may be a real token."""
    longest = max(len(prompt) for prompt in prompts)
    ids = [[pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _narrowed(logits: torch.Tensor, temperature: float, seen: Sequence[set[int]], narrowing: Narrowing) -> torch.Tensor:
    """The logits, (rows, vocabulary) float32, with those of tokens that are not to be drawn at minus infinity."""
    if narrowing == ALL_TOKENS:
        return logits
    logits = logits.clone()  # the decoder's own, which it may write over
    if narrowing.repetition_penalty != 1:
        for row, ids in zip(logits, seen, strict=True):
            places = torch.tensor(sorted(ids), device=logits.device)
            held = row[places]
            row[places] = torch.where(held > 0, held / narrowing.repetition_penalty, held * narrowing.repetition_penalty)
    if 0 < narrowing.top_k < logits.shape[1]:
        least = logits.topk(narrowing.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if narrowing.top_p < 1 and temperature > 0:
        ordered, places = (logits / temperature).softmax(1).sort(dim=1, descending=True)
        # A token stays where those before it don't have the probability yet: the likeliest always does.
        beyond = ordered.cumsum(1) - ordered >= narrowing.top_p
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(1, places, beyond), -torch.inf)
    return logits


def until_stopped(answer: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """The text up to the first of some texts, piece by piece; what may be the beginning of one is held back."""
    held = ""
    for piece in answer:
        held += piece
        found = [place for stop in stops if (place := held.find(stop)) >= 0]
        if found:
            yield held[: min(found)]
            return
        kept = max((_begun(held, stop) for stop in stops), default=0)
        if len(held) > kept:
            yield held[: len(held) - kept]
            held = held[len(held) - kept :]
    if held:
        yield held


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of a text are the beginning of another."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


def _choose(logits: torch.Tensor, temperature: float, generators: list[torch.Generator]) -> torch.Tensor:
    """(rows,) int64 token ids, one of each row of `logits` (rows, vocabulary) float32, on its device."""
    if temperature == 0:
        return logits.argmax(1)
    # Drawn on the CPU, a generator a row: the same draws on every device and in every batch.
    shares = torch.softmax(logits / temperature, dim=1).nan_to_num(nan=1.0).cpu()  # (rows, vocabulary) float32
    drawn = [torch.multinomial(row, 1, generator=each) for row, each in zip(shares, generators, strict=True)]  # (1,) each
    return torch.cat(drawn).to(logits.device)


# ------------------------------------------------------------------------------------------ the packaged model


def answer_fault(prompt_tokens: int, max_new_tokens: int) -> OutOfMemory:
    """There is no room for an answer.

    Args:
        prompt_tokens: of the prompt that was answered alone.
        max_new_tokens: the most that would have been made.
    """
    return OutOfMemory(
        f"memory ran out while answering: {prompt_tokens:,} tokens of prompt, at most {max_new_tokens:,} of answer",
        "allow shorter answers (--max-new-tokens, eval.max_new_tokens), free memory on this device, or set compute.gpu to cpu",
    )
