"""A GGUF file proved: llama.cpp opens it, makes the same ids of prompts, finds answers as likely, and stops where it should."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import BadInput
from pipeline.common.text import safe, size
from pipeline.export.package import Package
from pipeline.export.proof import llama_cpp
from pipeline.export.proof.proof import Limits, NotProved, Proof, compared, require
from pipeline.export.proof.reference import HeldOutRows, expected, held_out_rows
from pipeline.system.host import read_host

if TYPE_CHECKING:
    from pipeline.export.ollama.modelfile import Spoken
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer
    from pipeline.tokenization.messages import Message

_SMALL = 64 << 20  # bytes of a file that one thread computes with as fast as several
_BESIDE_FILE = 1 << 30  # keys, values, and what llama.cpp computes in
_OPENING_S, _S_A_TOKEN, _S_A_GIB = 180.0, 2.0, 120.0
# What vocabularies disagree over: digits, spaces, line ends, contractions, scripts, joined emoji, accents in two forms.
_HARD = (
    "What comes after 9, 99, 999, 9999 and 12345678?",
    "I've told you: we'LL see, they'RE there, it's DON'T.",
    "a  b   c\td\n\ne\n\n\nf  \n g",
    "def f(x):\n    return x**2 != 3.14  # ok?\n",
    "Größe, naïve, Ünïcödé, e\u0301 é, ﬁ, ½",
    "日本語と中文 한국어 नमस्ते កាន់ ﷽",
    "🚀 😶\u200d🌫️ 🦙🦙 ✅!!! ---===... ''''```",
    "http://example.com/a_b-c?d=e&f=%20#g @x #1",
)


def conversations() -> list[list[Message]]:
    """A question; one with a system message; three turns with one; and hard strings."""
    hard: list[list[Message]] = [[{"role": "user", "content": text}] for text in _HARD]
    turns: list[Message] = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": "And of Spain?"},
        {"role": "assistant", "content": "Madrid,\nof course."},
        {"role": "user", "content": "Name a third."},
    ]
    system: Message = {"role": "system", "content": "Answer in one word."}
    return [[turns[0]], [system, turns[0]], turns, [system, *turns], *hard]


def prove_gguf(
    path: Path,
    package: Package,
    tokenizer: ChatTokenizer,
    limits: Limits,
    what: str,
    lora: Path | None = None,
    spoken: Spoken | None = None,
) -> Proof:
    """What llama.cpp makes of the file.

    Args:
        what: a person calls the export.
        lora: an adapter's file that is loaded beside it, with the chat template that trained.
        spoken: how another program speaks to the file, whose prompts have to be the same ids.

    Returns:
        The proof; one that says why there is none, where llama.cpp is not here or finds no memory.

    Raises:
        NotProved: it does not open the file, or what it computes is another model.
    """
    needed, free = path.stat().st_size + _BESIDE_FILE, read_host().memory_available_bytes
    if not llama_cpp.is_there():
        return Proof(reason=f"llama.cpp is not installed here; {llama_cpp.INSTALL}, then export it again")
    if needed > free:
        return Proof(reason=f"llama.cpp would need about {size(needed)} of memory, {size(free)} were free; export it again")
    composes = _composes(tokenizer)
    asked = prompts(tokenizer, [_composed(each) if composes else each for each in conversations()])
    rows = rows_of(package, tokenizer)
    texts = _texts(what, spoken, tokenizer, [messages for messages, _ in asked]) if spoken else []
    found = _answers(path, lora, tokenizer, [each for each, _ in asked], texts, rows, what)
    for (messages, ids), prompt in zip(asked, found["prompts"], strict=True):
        _same_prompt(what, tokenizer, messages, ids, prompt)
    for (messages, ids), text, other in zip(asked, texts, found["texts"], strict=False):
        _same_prompt(what, tokenizer, messages, ids, {"text": text, "ids": other})
    if going_on := [number for number, stopped in zip(_stops(tokenizer), found["stops"], strict=True) if not stopped]:
        names = ", ".join(repr(tokenizer.decode([number], keep_special=True)) for number in going_on)
        raise NotProved(f"{what}: llama.cpp goes on after {names}, which ends an answer", "it is not packaged")
    told = [each for row in found["rows"] for each in row]
    pairs = [pair for pair in zip(told, expected(package, rows.rows), strict=True) if pair[0] is not None]
    figures = compared(*zip(*pairs, strict=True))
    program = f"llama.cpp (xllamacpp {version('xllamacpp')})"
    notes = (_NOT_COMPOSED,) if composes else ()
    return require(what, Proof(program=program, prompts=len(asked), of=rows.of, notes=notes, **figures), limits)


# Qwen's tokenizers do, and llama.cpp has no step for it.
_NOT_COMPOSED = (
    "llama.cpp reads an accent that is written as a character of its own as it stands, where the model's tokenizer makes one "
    "character of it and its letter"
)


def _composes(tokenizer: ChatTokenizer) -> bool:
    """Whether the tokenizer makes one character of a letter and its accent before it cuts a text."""
    return "NFC" in json.dumps(tokenizer.document().get("normalizer"))


def _composed(messages: Sequence[Message]) -> list[Message]:
    return [{"role": each["role"], "content": unicodedata.normalize("NFC", each["content"])} for each in messages]


def prompts(tokenizer: ChatTokenizer, said: Sequence[list[Message]]) -> list[tuple[list[Message], list[int]]]:
    """Those conversations that the template has a place for, each with its ids."""
    found = []
    for messages in said:
        try:
            found.append((messages, tokenizer.encode_prompt(messages)))
        except BadInput:
            continue
    return found


def rows_of(package: Package, tokenizer: ChatTokenizer) -> HeldOutRows:
    """What is scored: held-out rows, or texts of ours where the package has no prepared data."""
    rows = held_out_rows(package.processed) if package.processed is not None else HeldOutRows((), "")
    return rows if rows.rows else _without_data(tokenizer)


def _without_data(tokenizer: ChatTokenizer) -> HeldOutRows:
    """Prompts with answers of ours, for a package without prepared data."""
    from pipeline.export.proof.reference import ScoredRow

    rows = []
    for text in _HARD:
        try:
            documents = tokenizer.encode_conversation([{"role": "user", "content": text}, {"role": "assistant", "content": text}])
        except BadInput:
            continue
        for each in documents:
            places = [place for begin, end in each.spans for place in range(begin, end) if place > 0]
            rows.append(ScoredRow(tuple(each.ids[: places[-1] + 1]), tuple(places)))
    return HeldOutRows(tuple(rows), "of texts of Humigence's own, for want of prepared data")


def _stops(tokenizer: ChatTokenizer) -> list[int]:
    return sorted(tokenizer.stop_ids)


def _texts(what: str, spoken: Spoken, tokenizer: ChatTokenizer, asked: Sequence[Sequence[Message]]) -> list[str]:
    """Conversations as the other program writes them, with the contents as the model's template shows them.

    Some templates cut white space from both ends of a text, which Go's can't.
    """
    texts = []
    for messages in asked:
        text, expected = spoken.text(messages), tokenizer.render(list(messages)).removeprefix(spoken.bos)
        if text != expected:
            text = spoken.text([{"role": each["role"], "content": each["content"].strip()} for each in messages])
        if text != expected:
            lines = f"  trained: {safe(expected[:400])!r}\n  written: {safe(text[:400])!r}"
            raise NotProved(f"{what}: its template writes another prompt of a conversation\n{lines}", "it is not packaged")
        texts.append(text)
    return texts


def _answers(
    path: Path,
    lora: Path | None,
    tokenizer: ChatTokenizer,
    asked: Sequence[Any],
    texts: Sequence[str],
    rows: HeldOutRows,
    what: str,
) -> dict[str, Any]:
    tokens = sum(len(row.places) for row in rows.rows)
    seconds = _OPENING_S + path.stat().st_size / (1 << 30) * _S_A_GIB + tokens * _S_A_TOKEN * max(1, path.stat().st_size >> 30)
    longest = max(len(row.ids) for row in rows.rows) + 8
    questions = {
        "model": str(path), "lora": str(lora) if lora else None,
        "template": tokenizer.chat_template if lora else None, "context": max(256, longest), "conversations": list(asked),
        "texts": list(texts),
        "rows": [{"ids": row.ids, "places": row.places} for row in rows.rows], "stops": _stops(tokenizer),
        "threads": len(os.sched_getaffinity(0)) if path.stat().st_size > _SMALL else 1,
    }  # fmt: skip
    try:
        return llama_cpp.ask(questions, seconds)
    except llama_cpp.DidNotOpen as error:
        raise NotProved(
            f"{what}: it could not be asked: {error}", "it is not packaged; the adapter and the other formats are"
        ) from error


def _same_prompt(what: str, tokenizer: ChatTokenizer, messages: Sequence[Message], ids: list[int], found: dict[str, Any]) -> None:
    """Raise `NotProved`, with both texts, where llama.cpp makes another prompt of a conversation."""
    if found.get("ids") == ids:
        return
    ours = tokenizer.render(list(messages))
    lines = list(_difference(ours, ids, found))
    raise NotProved(f"{what}: llama.cpp makes another prompt of a conversation\n" + "\n".join(lines), "it is not packaged")


def _difference(ours: str, ids: Sequence[int], found: dict[str, Any]) -> Iterator[str]:
    yield f"  trained: {safe(ours[:400])!r}"
    if "refused" in found:
        yield f"  llama.cpp refuses it: {safe(found['refused'])}"
        return
    yield f"  llama.cpp: {safe(found['text'][:400])!r}"
    place = next((at for at, pair in enumerate(zip(ids, found["ids"], strict=False)) if pair[0] != pair[1]), len(ids))
    yield f"  from token {place} on: {list(ids[place : place + 8])} and {found['ids'][place : place + 8]}"
