"""What is offered on which machine, and the true reason where something is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.base_model import catalogue
from pipeline.base_model.shape import ModelShape
from pipeline.config.choice import Choice
from pipeline.config.schema import Config
from pipeline.dataset.schemas.registry import SCHEMA_CHOICES
from pipeline.planning.export_formats import FORMAT_CHOICES
from pipeline.system.gpu import GIB, Device, GpuReading, Survey
from pipeline.system.host import HostReading
from screens.setup.options import MachineFacts, choice_options, format_options, gpu_options, model_options, precision_options
from screens.widgets.choices import Option
from tests.hub import use_hub_home

HOST = HostReading("A CPU", 8, 0.0, 32 * GIB, 20 * GIB)
CARD = GpuReading(0, "GPU-aaaa", "RTX 4080", (8, 9), memory_total_bytes=16 * GIB, memory_free_bytes=15 * GIB)
CARD_DEVICE = Device("cuda", "RTX 4080", total_bytes=16 * GIB, free_bytes=15 * GIB, capability=(8, 9))
SHAPE = ModelShape(2048, 5632, 22, 32, 4, 64, 32_000)


def facts(
    *gpus: GpuReading, usable: tuple[GpuReading, ...] | None = None, cuda_build: bool = True, problem: str = ""
) -> MachineFacts:
    return MachineFacts(Survey(gpus, problem), gpus if usable is None else usable, HOST, cuda_build)


def option(options: list[Option], value: str) -> Option:
    return next(each for each in options if each.value == value)


@pytest.mark.parametrize(
    ("gpus", "reason"), [((), "has none"), ((CARD,), "has one"), ((CARD, GpuReading(1, "GPU-b")), "not in this version")]
)
def test_several_gpus_say_why_not(gpus: tuple[GpuReading, ...], reason: str) -> None:
    assert reason in option(gpu_options(facts(*gpus), "auto"), "several").reason


def test_a_gpu_hidden_by_the_environment_cant_be_chosen() -> None:
    options = gpu_options(facts(CARD, usable=()), "auto")
    assert option(options, "0").reason == "hidden by CUDA_VISIBLE_DEVICES"
    assert "hides every GPU" in option(options, "auto").detail


def test_a_cpu_only_torch_is_told_at_the_gpu() -> None:
    assert option(gpu_options(facts(CARD, cuda_build=False), "auto"), "0").reason == "the installed torch is a CPU build"


def test_a_gpu_named_by_uuid_stays_named_by_uuid() -> None:
    values = [each.value for each in gpu_options(facts(CARD), "GPU-aaaa")]
    assert "GPU-aaaa" in values and "0" not in values


def test_a_configured_gpu_that_is_not_here_is_listed_and_says_so() -> None:
    assert option(gpu_options(facts(CARD), "5"), "5").reason == "not on this machine"


def test_names_from_the_driver_cant_move_the_cursor() -> None:
    evil = GpuReading(0, "GPU-a", "RTX\x1b[2J", memory_total_bytes=GIB, memory_free_bytes=GIB)
    assert "\x1b" not in option(gpu_options(facts(evil), "auto"), "0").detail


def test_a_gated_model_names_the_token_and_where_its_licence_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub_home(monkeypatch, tmp_path)
    gated = next(model for model in catalogue.MODELS if model.gated)
    found = option(model_options(None), gated.repo)
    assert "gated: hf auth login" in found.reason
    assert f"https://huggingface.co/{gated.repo}, then hf auth login, or set HF_TOKEN" in found.about
    (tmp_path / "token").write_text("hf_x")
    found = option(model_options(None), gated.repo)
    assert not found.reason and found.detail.endswith(", gated") and f"https://huggingface.co/{gated.repo}" in found.about


def test_every_model_fits_its_line_at_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub_home(monkeypatch, tmp_path)
    for token in ("", "hf_x"):
        (tmp_path / "token").write_text(token)
        options = model_options(CARD_DEVICE)
        column = max(len(each.label) for each in options)
        assert max(2 + column + 2 + len(each.reason or each.detail) for each in options) <= 63, "beside the question's title"


def test_a_model_too_big_for_the_device_says_what_it_needs_and_what_is_free() -> None:
    small = Device("cuda", "tiny card", total_bytes=GIB, free_bytes=GIB // 2)
    reason = option(model_options(small), "Qwen/Qwen2.5-1.5B-Instruct").reason
    assert reason.startswith("needs ") and "0.5 GiB free" in reason


def test_modes_an_old_gpu_cant_do_say_what_they_need() -> None:
    old = Device("cuda", "GTX 1080", total_bytes=64 * GIB, free_bytes=64 * GIB, capability=(6, 1))
    options = precision_options(Config(), SHAPE, old)
    assert {each.value for each in options if each.reason} == {"lora_bf16", "lora_int8"}
    assert option(options, "lora_bf16").reason == "needs compute capability 8.0: this GPU has 6.1"


def test_a_mode_that_does_not_fit_says_how_much_it_needs() -> None:
    card = Device("cuda", "2.5 GiB", total_bytes=5 * GIB // 2, free_bytes=5 * GIB // 2, capability=(8, 9))
    options = precision_options(Config(), SHAPE, card)
    assert not option(options, "qlora_nf4").reason
    assert option(options, "lora_bf16").reason.endswith("GiB, 2.5 GiB free")


@pytest.mark.parametrize("choices", [SCHEMA_CHOICES, FORMAT_CHOICES])
def test_what_the_catalogue_has_not_is_offered_with_its_reason(choices: tuple[Choice, ...]) -> None:
    for choice, found in zip(choices, choice_options(choices), strict=True):
        assert bool(found.reason) == bool(choice.unavailable)
        assert choice.unavailable in found.about


def test_a_format_tells_the_room_it_takes_and_is_not_offered_without_it() -> None:
    package = {"peft_adapter": 20 << 20, "merged": 2 * GIB}
    roomy = format_options(package, 3 * GIB)
    assert option(roomy, "merged") == Option("merged", "merged", "≈ 2.0 GiB", "", option(roomy, "merged").about)
    assert "vLLM" in option(roomy, "merged").about and not any(choice.unavailable for choice in FORMAT_CHOICES)
    tight = format_options(package, GIB)
    assert option(tight, "merged").reason == "needs 2.0 GiB, 1.0 GiB free" and not option(tight, "peft_adapter").reason
    assert not option(format_options({}, 0), "merged").reason, "not known is not too little"
