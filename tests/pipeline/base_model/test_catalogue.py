from __future__ import annotations

import shutil
import typing
from pathlib import Path

import pytest

from pipeline.base_model import catalogue
from pipeline.base_model.catalogue import curated_model
from pipeline.config.schema import Config, ExportFormat
from pipeline.planning.availability import availability
from pipeline.planning.export_formats import FORMAT_CHOICES
from pipeline.system.gpu import GIB, Device
from tests.hub import use_hub_home

# As the safetensors headers on the hub tell; Qwen2.5 has biases on query, key and value that the shape leaves out.
PUBLISHED = {
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1_711_376_384,
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768 - 24 * (896 + 128 + 128),
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304 - 28 * (1536 + 256 + 256),
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub_home(monkeypatch, tmp_path / "hf")


def gpu(gib: float) -> Device:
    return Device("cuda", "NVIDIA Test", "GPU-1", 0, int(gib * GIB), int(gib * GIB), (8, 9))


def test_every_shape_has_the_published_number_of_parameters() -> None:
    assert {model.repo: model.shape.parameters for model in catalogue.MODELS} == PUBLISHED


def test_the_default_model_is_in_the_catalogue() -> None:
    assert curated_model(Config().model.repo) is not None
    assert curated_model("tinyllama/tinyllama-1.1b-chat-v1.0") is curated_model(Config().model.repo)
    assert curated_model("owner/name") is None


def test_a_gated_model_needs_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (gated,) = [model for model in catalogue.MODELS if model.gated]
    assert "set HF_TOKEN" in str(availability(gated))
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("hf_x")
    assert availability(gated) is None
    (tmp_path / "hf" / "token").unlink()
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert availability(gated) is None


def test_a_model_that_has_no_room_says_how_much_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    large = curated_model("HuggingFaceTB/SmolLM2-1.7B-Instruct")
    assert large is not None and availability(large, gpu(8)) is None
    assert str(availability(large, gpu(1.5))).endswith("1.5 GiB free on NVIDIA Test")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=GIB))
    assert "needs 3.2 GiB on disk, 1.0 GiB free" in str(availability(large))


def test_a_downloaded_model_needs_no_token_and_no_room(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "hf" / "hub" / "models--meta-llama--Llama-3.2-1B-Instruct"
    shutil.copytree(tiny_model, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    gated = curated_model("meta-llama/Llama-3.2-1B-Instruct")
    assert gated is not None and gated.downloaded
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    assert availability(gated) is None


def test_what_the_config_takes_can_be_chosen_and_the_rest_says_why_not() -> None:
    assert tuple(choice.value for choice in FORMAT_CHOICES if not choice.unavailable) == typing.get_args(ExportFormat)
    assert all(choice.what for choice in FORMAT_CHOICES)
