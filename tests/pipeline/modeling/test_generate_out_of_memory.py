"""Memory that runs out while prompts are answered."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.common.errors import EnvironmentFault
from pipeline.modeling import generate
from pipeline.system.out_of_memory import OutOfMemory
from pipeline.tokenization.chat_tokenizer import ChatTokenizer


@contextmanager
def room_for_rows(model: Any, most: int, *, after: int = 0) -> Iterator[list[int]]:
    """The model runs out of memory with more than `most` rows at once, from call number `after` on; gives the rows of calls."""
    calls: list[int] = []

    def check(_module: Any, _arguments: Any, named: dict[str, Any]) -> None:
        calls.append(len(named["input_ids"]))
        if calls[-1] > most and len(calls) > after:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = model.register_forward_pre_hook(check, with_kwargs=True)
    yield calls
    hook.remove()


@pytest.fixture(scope="module")
def talker(tiny_model: Path) -> tuple[Any, ChatTokenizer]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    for parameter in model.parameters():
        parameter.data *= 6 if parameter.ndim == 2 else 1
    return model, ChatTokenizer.from_folder(tiny_model)


PROMPTS = ["Hi", "What is the capital of France?", "Water boils", "Tell me about overfitting", "Why?"]


@pytest.mark.parametrize("most", [1, 2, 4])
def test_fewer_prompts_together_are_answered_as_all_of_them(talker: tuple[Any, ChatTokenizer], most: int) -> None:
    model, tokenizer = talker
    ids = [generate.user_prompt(tokenizer, prompt) for prompt in PROMPTS]
    expected = generate.generate_batch(model, tokenizer, ids, 8, 0.7, 5)
    with room_for_rows(model, most) as calls:
        assert generate.generate_batch(model, tokenizer, ids, 8, 0.7, 5) == expected
    assert max(calls) == len(PROMPTS)


def test_an_answer_that_finds_no_room_at_all_names_what_to_change(talker: tuple[Any, ChatTokenizer]) -> None:
    model, tokenizer = talker
    ids = generate.user_prompt(tokenizer, "Hi")
    with room_for_rows(model, 0), pytest.raises(EnvironmentFault, match="memory ran out while answering") as caught:
        generate.generate_batch(model, tokenizer, [ids], 8)
    assert caught.value.exit_code == 4 and "eval.max_new_tokens" in caught.value.hint


def test_a_first_pass_that_finds_no_room_changes_no_answer(talker: tuple[Any, ChatTokenizer]) -> None:
    """Whatever that pass was for: a model is asked about its padding before it answers for the first time."""
    model, tokenizer = talker
    ids = [generate.user_prompt(tokenizer, prompt) for prompt in PROMPTS]
    expected = generate.generate_batch(model, tokenizer, ids, 8, 0.7, 5)
    new = copy.deepcopy(model)
    with room_for_rows(new, 0), pytest.raises(OutOfMemory, match="memory ran out while answering"):
        generate.generate_batch(new, tokenizer, ids, 8, 0.7, 5)
    with _no_room_at_first(new):
        assert generate.generate_batch(new, tokenizer, ids, 8, 0.7, 5) == expected
    with room_for_rows(new, len(ids)) as calls:
        assert generate.generate_batch(new, tokenizer, ids, 8, 0.7, 5) == expected
    assert max(calls) == len(ids), "with room again they are answered together"


@contextmanager
def _no_room_at_first(model: Any) -> Iterator[None]:
    def check(*_: Any) -> None:
        hook.remove()
        raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = model.register_forward_pre_hook(check)
    yield


def test_what_was_answered_before_memory_ran_out_is_told(talker: tuple[Any, ChatTokenizer]) -> None:
    model, tokenizer = talker
    ids = generate.user_prompt(tokenizer, "Hi")
    whole = "".join(generate.stream(model, tokenizer, ids, 12))
    answer, pieces = generate.stream(model, tokenizer, ids, 12), list[str]()
    with room_for_rows(model, 0, after=6), pytest.raises(OutOfMemory, match="memory ran out while answering"):
        pieces.extend(iter(lambda: next(answer), None))
    assert pieces and whole.startswith("".join(pieces)) and "".join(pieces) != whole
