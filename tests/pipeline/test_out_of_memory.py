"""Memory that runs out beside training: at a load, while scoring and answering, in any other step."""

from __future__ import annotations

import errno
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base_model.locate import base_model_at
from pipeline.common.errors import EnvironmentFault, HumigenceError
from pipeline.evaluation import scoring
from pipeline.modeling import generate, load
from pipeline.runner import runner
from pipeline.runs.context import StepContext
from pipeline.runs.events import STEP_NAMES, Event, StepFinished, StepName
from pipeline.runs.folders import Workspace
from pipeline.system.gpu import cpu_device
from pipeline.system.out_of_memory import NO_ROOM, OutOfMemory, in_halves, is_out_of_memory, unless_short
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests.steps.judged import config_for
from tests.training.shortage import ERRORS


def after(first: Exception, error: Exception) -> Exception:
    """`error` as it is when it was raised while `first` was on its way."""
    error.__context__ = first
    return error


BROKEN_OFF = "CUDA error: operation failed due to a previous error during capture"


@pytest.mark.parametrize(
    "error",
    [
        *(make() for make in ERRORS),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        after(torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(BROKEN_OFF)),
    ],
)
def test_memory_that_ran_out_is_known_by_every_name_it_has(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert unless_short(raising(error)) is NO_ROOM


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        ValueError("out of memory"),
        OSError(errno.ENOSPC, "No space left on device"),
        OutOfMemory("told already"),
        after(RuntimeError("CUDA error: unspecified launch failure"), RuntimeError(BROKEN_OFF)),
        after(MemoryError(), RuntimeError("the size of tensor a must match")),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_are_not_taken_for_it(error: BaseException) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)):
        unless_short(raising(error))


def raising(error: BaseException) -> Callable[[], object]:
    def work() -> object:
        raise error

    return work


def test_what_the_failed_attempt_held_is_free_before_the_next() -> None:
    """An exception that is kept would keep the tensors of its frames, and the halves would find no room either."""
    kept: list[weakref.ref[torch.Tensor]] = []

    def work() -> None:
        large = torch.zeros(1000)
        kept.append(weakref.ref(large))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    assert unless_short(work) is NO_ROOM
    assert kept[0]() is None


@given(st.lists(st.integers(), min_size=1, max_size=20), st.integers(1, 20))
def test_halves_give_the_results_of_the_whole_in_its_order(items: list[int], room: int) -> None:
    def work(some: Sequence[int]) -> list[int]:
        if len(some) > room:
            raise MemoryError
        return [3 * each for each in some]

    assert in_halves(items, work, lambda _: AssertionError()) == [3 * each for each in items]


# ------------------------------------------------------------------------------------------------- generation


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


def test_what_was_answered_before_memory_ran_out_is_told(talker: tuple[Any, ChatTokenizer]) -> None:
    model, tokenizer = talker
    ids = generate.user_prompt(tokenizer, "Hi")
    whole = "".join(generate.stream(model, tokenizer, ids, 12))
    answer, pieces = generate.stream(model, tokenizer, ids, 12), list[str]()
    with room_for_rows(model, 0, after=6), pytest.raises(OutOfMemory, match="memory ran out while answering"):
        pieces.extend(iter(lambda: next(answer), None))
    assert pieces and whole.startswith("".join(pieces)) and "".join(pieces) != whole


# ------------------------------------------------------------------------------------------------ load and score


def test_a_model_that_does_not_fit_is_told_with_what_it_takes(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = fail_to_load(monkeypatch, times=99)
    with pytest.raises(
        EnvironmentFault, match=r"does not fit into the memory of .*its weights take about .* were free"
    ) as caught:
        load.load_base(base_model_at(tiny_model, "model.local_path"), "lora_bf16", cpu_device())
    assert caught.value.exit_code == 4 and len(tried) == 2
    assert "compute.gpu" in caught.value.hint and "train.precision_mode qlora_nf4" in caught.value.hint


def test_a_model_is_loaded_once_more_when_what_trained_before_it_has_gone(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_load(monkeypatch, times=1)
    assert load.load_base(base_model_at(tiny_model, "model.local_path"), "lora_bf16", cpu_device()).config.use_cache is False


def fail_to_load(monkeypatch: pytest.MonkeyPatch, *, times: int) -> list[None]:
    """transformers finds no room for the weights so many times; gives the attempts."""
    attempts: list[None] = []
    load_it = load.AutoModelForCausalLM.from_pretrained

    def from_pretrained(*arguments: Any, **named: Any) -> Any:
        attempts.append(None)
        if len(attempts) <= times:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return load_it(*arguments, **named)

    monkeypatch.setattr(load.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    return attempts


class Adapted(torch.nn.Module):
    """A model that knows its next token by heart, and worse without its adapter; scoring asks no more of one."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.weight, self.tuned, self.most, self.calls = torch.nn.Parameter(torch.zeros(1)), True, most, list[int]()

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        self.tuned = False
        yield
        self.tuned = True

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        self.calls.append(input_ids.numel())
        if input_ids.numel() > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        logits = torch.nn.functional.one_hot((input_ids + 1) % 11, 11).double() * (2.0 if self.tuned else 1.0)
        return type("Output", (), {"logits": logits})


ROWS = [([n % 11 for n in range(length)], [n % 11 for n in range(length)]) for length in (9, 4, 7, 6, 6, 3)]
LENGTHS = [len(ids) for ids, _ in ROWS]


def test_fewer_rows_at_once_score_the_same_and_it_is_learned() -> None:
    roomy, short = Adapted(10**9), Adapted(14)
    wanted = scoring.compare(roomy, ROWS, LENGTHS, 32)
    done: list[int] = []
    found = scoring.compare(short, ROWS, LENGTHS, 32, done.append)
    for one, other in zip(found, wanted, strict=True):
        assert (one.tokens, one.correct) == (other.tokens, other.correct)
        assert one.loss_sum == pytest.approx(other.loss_sum, rel=1e-9)
    assert wanted[0].loss > wanted[1].loss
    assert done[-1] == len(ROWS) and sum(call > 14 for call in short.calls) == 1


def test_a_row_that_can_not_be_scored_alone_names_what_to_change() -> None:
    with pytest.raises(EnvironmentFault, match="one conversation of 9 tokens") as caught:
        scoring.compare(Adapted(8), ROWS, LENGTHS, 32)
    assert caught.value.exit_code == 4 and "compute.gpu" in caught.value.hint


# -------------------------------------------------------------------------------------------------- other steps


@pytest.mark.parametrize("step", STEP_NAMES)
def test_a_step_that_runs_out_of_memory_ends_with_exit_code_4_and_what_to_do(step: StepName, tmp_path: Path) -> None:
    told: list[Event] = []
    ctx = StepContext(config_for(tmp_path), Workspace(tmp_path), emit=told.append)

    def work() -> Any:
        raise MemoryError

    with pytest.raises(HumigenceError) as caught:
        runner._told(step, ctx, work)
    assert caught.value.exit_code == 4 and f"memory ran out in {step}" in caught.value.message
    assert "free memory" in caught.value.hint
    ended = told[-1]
    assert isinstance(ended, StepFinished) and ended.outcome == "failed"
