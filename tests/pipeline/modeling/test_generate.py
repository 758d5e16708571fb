"""Generation on tiny models with random weights: what is said matters nowhere, that it is the same everywhere does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.modeling import generate
from pipeline.tokenization.chat_tokenizer import ChatTokenizer

PROMPTS = ["Hi", "What is the capital of France?", "Tell me about overfitting, " * 8, "Water boils"]


@pytest.fixture(scope="module", params=["zephyr", "chatml"])
def folder(request: pytest.FixtureRequest, tiny_model: Path, tiny_chatml_model: Path) -> Path:
    return tiny_model if request.param == "zephyr" else tiny_chatml_model


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> ChatTokenizer:
    return ChatTokenizer.from_folder(folder)


@pytest.fixture
def model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    model.config.use_cache = False
    # Attention that tells positions apart and logits far from ties: with the initial weights nearly everything is one.
    for parameter in model.parameters():
        parameter.data *= 6 if parameter.ndim == 2 else 1
    return model


@pytest.fixture
def ids(tokenizer: ChatTokenizer) -> list[list[int]]:
    return [generate.user_prompt(tokenizer, prompt) for prompt in PROMPTS]


def one_by_one(model: Any, tokenizer: ChatTokenizer, prompt: list[int], count: int) -> str:
    """Greedy, with no padding, no mask, no cache."""
    import torch

    model.eval()
    seen = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            token = int(model(input_ids=torch.tensor([seen]), use_cache=False).logits[0, -1].argmax())
            if token in tokenizer.stop_ids:
                break
            seen.append(token)
    return tokenizer.decode(seen[len(prompt) :])


def test_a_batch_answers_what_each_prompt_alone_is_answered(model: Any, tokenizer: ChatTokenizer, ids: list[list[int]]) -> None:
    expected = [one_by_one(model, tokenizer, prompt, 12) for prompt in ids]
    assert len(set(expected)) == len(expected)
    assert generate.generate_batch(model, tokenizer, ids, 12) == expected


def test_an_answer_ends_at_a_stop_token_and_the_others_go_on(model: Any, tokenizer: ChatTokenizer, ids: list[list[int]]) -> None:
    whole = generate.generate_batch(model, tokenizer, ids, 12)
    first = tokens_of(model, tokenizer, ids[0])
    stopping = Stopping(tokenizer, frozenset(first[3:4]))
    stopped = generate.generate_batch(model, stopping, ids, 12)  # type: ignore[arg-type]
    assert stopped[0] == tokenizer.decode(first[: first.index(first[3])])
    assert stopped != whole
    assert generate.generate_batch(model, stopping, ids[::-1], 12) == stopped[::-1]  # type: ignore[arg-type]


class Stopping:
    """A tokenizer that stops elsewhere."""

    def __init__(self, tokenizer: ChatTokenizer, stop_ids: frozenset[int]) -> None:
        self._tokenizer, self.stop_ids = tokenizer, stop_ids

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def tokens_of(model: Any, tokenizer: ChatTokenizer, prompt: list[int], **options: Any) -> list[int]:
    columns = generate._tokens(model, tokenizer, [prompt], 12, options.get("temperature", 0.0), options.get("seed", 0))
    return [column[0] for column in columns if column[0] is not None]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generating_leaves_random_state_mode_and_cache_setting_alone(
    model: Any, tokenizer: ChatTokenizer, ids: list[list[int]], temperature: float
) -> None:
    import torch

    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    before = torch.get_rng_state()
    generate.generate_batch(model, tokenizer, ids, 4, temperature)
    next(generate.stream(model, tokenizer, ids[0], 4, temperature), "")
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in model.modules()] == modes
    assert model.config.use_cache is False
    assert torch.is_grad_enabled()


def test_dropout_is_off_while_generating(model: Any, tokenizer: ChatTokenizer, ids: list[list[int]]) -> None:
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    quiet = generate.generate_batch(model.eval(), tokenizer, ids, 8)
    assert generate.generate_batch(model.train(), tokenizer, ids, 8) == quiet


def test_draws_follow_from_seed_and_prompt_whatever_else_is_in_the_batch(
    model: Any, tokenizer: ChatTokenizer, ids: list[list[int]]
) -> None:
    together = generate.generate_batch(model, tokenizer, ids, 12, 1.0, seed=3)
    alone = [generate.generate_batch(model, tokenizer, [prompt], 12, 1.0, seed=3)[0] for prompt in ids]
    assert together == alone
    assert together != generate.generate_batch(model, tokenizer, ids, 12, 1.0, seed=4)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_streamed_pieces_join_to_the_answer(
    model: Any, tokenizer: ChatTokenizer, ids: list[list[int]], temperature: float
) -> None:
    for prompt in ids:
        pieces = list(generate.stream(model, tokenizer, prompt, 12, temperature, seed=1))
        assert "".join(pieces) == generate.generate_batch(model, tokenizer, [prompt], 12, temperature, seed=1)[0]


def test_a_model_whose_logits_are_no_numbers_says_nothing(model: Any, tokenizer: ChatTokenizer, ids: list[list[int]]) -> None:
    model.lm_head.weight.data[:] = float("nan")
    for temperature in (0.0, 1.0):
        assert generate.generate_batch(model, tokenizer, ids, 4, temperature) == [""] * len(ids)


def test_no_prompts_have_no_answers(model: Any, tokenizer: ChatTokenizer) -> None:
    assert generate.generate_batch(model, tokenizer, [], 4) == []


# ---------------------------------------------------------------------------------------------------- pieces

TEXTS = ["Plain words, and more of them.", "Grüße, 你好, 🙂🙃! Ωμέγα", "  two spaces\n\nand lines\n", "é", "a🙂", "🙂"]


def text_ids(tokenizer: ChatTokenizer, text: str) -> list[int]:
    return list(tokenizer._tokenizer(text, add_special_tokens=False)["input_ids"])


def given(ids: Sequence[int]) -> Iterator[int]:
    return iter(ids)


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_join_to_the_text_and_never_hold_half_a_character(tokenizer: ChatTokenizer, text: str) -> None:
    ids = text_ids(tokenizer, text)
    pieces = list(generate.pieces(tokenizer, given(ids)))
    assert "".join(pieces) == tokenizer.decode(ids)
    assert not any("�" in piece for piece in pieces)


def test_words_come_as_they_are_said_not_at_the_end(tokenizer: ChatTokenizer) -> None:
    ids = text_ids(tokenizer, "The capital of France is Paris.")
    assert len(list(generate.pieces(tokenizer, given(ids)))) > len(ids) // 2


@pytest.mark.parametrize("cut", range(1, 12))
def test_pieces_join_to_the_text_where_a_character_is_broken_off(tokenizer: ChatTokenizer, cut: int) -> None:
    ids = text_ids(tokenizer, "\n\n你好🙂")
    for ending in (text_ids(tokenizer, "and on"), []):
        spoilt = ids[:cut] + ending
        assert "".join(generate.pieces(tokenizer, given(spoilt))) == tokenizer.decode(spoilt)


# ------------------------------------------------------------------------------------------------- which tokens


def narrowed(
    rows: list[list[float]], narrowing: generate.Narrowing, seen: Any = (), temperature: float = 1.0
) -> list[list[bool]]:
    import torch

    logits = generate._narrowed(torch.tensor(rows), temperature, [set(seen)] * len(rows), narrowing)
    return torch.isfinite(logits).tolist()  # type: ignore[no-any-return]


def test_only_the_likeliest_tokens_are_drawn() -> None:
    rows = [[0.0, 3.0, 2.0, 1.0], [5.0, 0.0, 0.0, 5.0]]
    assert narrowed(rows, generate.Narrowing(top_k=2)) == [[False, True, True, False], [True, False, False, True]]
    # Shares of the first row are 0.03, 0.64, 0.24 and 0.09.
    assert narrowed(rows[:1], generate.Narrowing(top_p=0.6)) == [[False, True, False, False]]
    assert narrowed(rows[:1], generate.Narrowing(top_p=0.7)) == [[False, True, True, False]]
    assert narrowed(rows[:1], generate.Narrowing(top_p=0.7), temperature=10.0) == [[False, True, True, True]]


def test_a_penalty_lowers_what_was_said_whatever_its_sign() -> None:
    import torch

    found = generate._narrowed(torch.tensor([[2.0, -2.0, 1.0]]), 0.0, [{0, 1}], generate.Narrowing(repetition_penalty=2.0))
    assert found.tolist() == [[1.0, -4.0, 1.0]]


def test_a_penalty_changes_an_answer_that_repeats_itself(model: Any, tokenizer: ChatTokenizer, ids: list[list[int]]) -> None:
    plain = generate.generate_batch(model, tokenizer, ids, 12)
    strict = generate.generate_batch(model, tokenizer, ids, 12, narrowing=generate.Narrowing(repetition_penalty=5.0))
    assert plain != strict
    streamed = [
        "".join(generate.stream(model, tokenizer, each, 12, narrowing=generate.Narrowing(repetition_penalty=5.0))) for each in ids
    ]
    assert streamed == strict


@pytest.mark.parametrize(
    ("pieces", "stops", "expected"),
    [
        (["Hel", "lo #", "## more"], ["###"], "Hello "),
        (["a#", "#b"], ["###"], "a##b"),
        (["one two"], ["two", "one"], ""),
        (["xyz"], ["q"], "xyz"),
    ],
)
def test_an_answer_ends_before_a_text_that_ends_it(pieces: list[str], stops: list[str], expected: str) -> None:
    assert "".join(generate.until_stopped(iter(pieces), stops)) == expected
