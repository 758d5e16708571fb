"""One table of precision modes, and one rule for where each works: the wizard and every step ask the same."""

from __future__ import annotations

import importlib.util
import typing
from pathlib import Path
from typing import Any

import pytest

from pipeline.base_model.precision import PRECISIONS, SMALLEST, compute_dtype, weight_bytes, why_not
from pipeline.base_model.shape import ModelShape
from pipeline.common.errors import EnvironmentFault
from pipeline.config.schema import Config, PrecisionMode
from pipeline.runs.context import StepContext
from pipeline.runs.folders import Workspace
from pipeline.steps import plan, validate
from pipeline.system.gpu import GIB, Device
from screens.setup.options import precision_options
from tests.conftest import chat_row, write_jsonl
from tests.hub import use_hub_home

SHAPE = ModelShape(2048, 5632, 22, 32, 4, 64, 32_000)
MODES: tuple[PrecisionMode, ...] = typing.get_args(PrecisionMode)
_ROOM = 64 * GIB
DEVICES = {
    "CPU": Device("cpu", "a CPU", total_bytes=_ROOM, free_bytes=_ROOM),
    **{
        f"capability {major}.{minor}": Device("cuda", "a card", "GPU-1", 0, _ROOM, _ROOM, (major, minor))
        for major, minor in ((7, 0), (7, 5), (8, 0), (8, 9), (9, 0))
    },
    "a GPU that does not tell": Device("cuda", "a card", "GPU-1", 0, _ROOM, _ROOM),
}


@pytest.fixture
def context(workspace: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> StepContext:
    """A config without any other fault."""
    use_hub_home(monkeypatch, workspace / "hf")
    write_jsonl(workspace / "rows.jsonl", [chat_row("How are you?", "Well, thank you.")] * 5)
    write_jsonl(workspace / "prompts.jsonl", [{"prompt": "What is overfitting?"}])
    settings: dict[str, Any] = {
        "model": {"local_path": str(tiny_model)}, "data": {"raw_path": "rows.jsonl"},
        "eval": {"curated_prompts_path": "prompts.jsonl"},
    }  # fmt: skip
    return StepContext(Config.model_validate(settings), Workspace(workspace), emit=lambda _: None)


def refusal(step: Any, context: StepContext, mode: PrecisionMode) -> str:
    train = context.config.train.model_copy(update={"precision_mode": mode})
    try:
        step.run(StepContext(context.config.model_copy(update={"train": train}), context.workspace, emit=context.emit))
    except EnvironmentFault as error:
        return f"{error.message}\n{error.hint}"
    return ""


def offered(mode: PrecisionMode, device: Device) -> bool:
    return not next(each for each in precision_options(Config(), SHAPE, device) if each.value == mode).reason


def test_there_is_a_row_for_each_mode_of_the_config() -> None:
    assert set(PRECISIONS) == set(MODES)
    assert all(name == row.name and row.what and row.quantized == bool(row.quantization) for name, row in PRECISIONS.items())
    assert min(MODES, key=lambda mode: weight_bytes(SHAPE, mode, "bfloat16")) == SMALLEST


@pytest.mark.parametrize("place", DEVICES)
def test_the_wizard_offers_what_validate_and_plan_accept(
    place: str, context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = DEVICES[place]
    for step in (validate, plan):
        monkeypatch.setattr(step, "choose_device", lambda _: device)
    for mode in MODES:
        for step in (validate, plan):
            found = refusal(step, context, mode)
            assert (not found) == offered(mode, device), f"{mode}: {found}"
            assert not found or f"{mode} needs compute capability" in found


@pytest.mark.parametrize("mode", MODES)
def test_training_does_not_load_a_model_for_a_mode_that_is_refused(mode: PrecisionMode, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.training import build

    class Loading(Exception):
        pass

    def load(*_: object, **__: object) -> None:
        raise Loading

    monkeypatch.setattr(build, "load_base", load)
    monkeypatch.setattr(build.attention, "implementation", str)
    config = Config.model_validate({"train": {"precision_mode": mode}})
    for device in DEVICES.values():
        expected = Loading if offered(mode, device) else EnvironmentFault
        with pytest.raises(expected):
            build.build_proved(config, *typing.cast(Any, (None, _Plan(), device, None, (), None)))


class _Plan:
    compute_dtype, attention = "bfloat16", "sdpa"


@pytest.mark.parametrize("mode", MODES)
def test_what_to_take_on_an_old_gpu_works_there(mode: PrecisionMode) -> None:
    device = DEVICES["capability 7.0"]
    if lack := why_not(mode, device):
        other = typing.cast(PrecisionMode, lack.remedy.split()[-1])
        assert why_not(other, device) is None and compute_dtype(other, device) == "float16"


def test_a_package_that_is_not_installed_is_missed_everywhere(context: StepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    device, find_spec = DEVICES["CPU"], importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "bitsandbytes" else find_spec(name, *more)
    )
    for step in (validate, plan):
        monkeypatch.setattr(step, "choose_device", lambda _: device)
        for mode in MODES:
            found = refusal(step, context, mode)
            assert ("bitsandbytes" in found) == (PRECISIONS[mode].needs_package == "bitsandbytes") != offered(mode, device)
