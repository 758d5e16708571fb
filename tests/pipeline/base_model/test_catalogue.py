from __future__ import annotations

import copy
import shutil
import typing
from pathlib import Path

import pytest

from pipeline.base_model import catalogue
from pipeline.base_model.catalogue import CuratedModel, curated_model
from pipeline.config.schema import Config, ExportFormat
from pipeline.planning.availability import availability, by_size, lacks_memory, planned_memory
from pipeline.planning.export_formats import FORMAT_CHOICES
from pipeline.system.gpu import GIB, Device
from tests.hub import use_hub_home


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub_home(monkeypatch, tmp_path / "hf")


def gpu(gib: float) -> Device:
    return Device("cuda", "NVIDIA Test", "GPU-1", 0, int(gib * GIB), int(gib * GIB), (8, 9))


def rows() -> list[typing.Any]:
    """Every row, one for each kind of model in `make test`."""
    seen: set[str] = set()
    params = []
    for model in catalogue.MODELS:
        first = model.shape.model_type not in seen and model.shape.layers < 40
        seen.add(model.shape.model_type)
        params.append(pytest.param(model, id=model.name, marks=() if first else pytest.mark.matrix))
    return params


@pytest.mark.parametrize("model", rows())
def test_the_sizes_of_a_row_make_a_model_of_the_published_number_of_parameters(model: CuratedModel) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    settings = copy.deepcopy(dict(model.config))
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    made_by = AutoModelForImageTextToText if "vision_config" in settings else AutoModelForCausalLM
    with torch.device("meta"):
        made = made_by.from_config(config)
    assert sum(each.numel() for each in made.parameters()) == model.parameters


def test_a_row_says_what_a_person_needs_who_chooses() -> None:
    assert len({model.repo for model in catalogue.MODELS}) == len(catalogue.MODELS)
    for model in catalogue.MODELS:
        assert model.family and model.licence and model.context >= 2048 and 0 < len(model.what) <= 60, model.repo
        assert model.download_bytes > 2 * model.parameters


def test_the_default_model_is_in_the_catalogue() -> None:
    assert curated_model(Config().model.repo) is not None
    assert curated_model("tinyllama/tinyllama-1.1b-chat-v1.0") is curated_model(Config().model.repo)
    assert curated_model("owner/name") is None


def test_a_gated_model_needs_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gated = next(model for model in catalogue.MODELS if model.gated)
    assert f"accept its licence at {gated.page}, then hf auth login, or set HF_TOKEN" in str(availability(gated))
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


def test_what_fits_the_device_stands_first_and_small_before_large() -> None:
    card = gpu(6)
    listed = by_size(card)
    fits = [not lacks_memory(model.shape, card) for model in listed]
    assert fits == sorted(fits, reverse=True) and len(set(fits)) == 2
    fitting = [model.parameters for model, fit in zip(listed, fits, strict=True) if fit]
    assert fitting == sorted(fitting)


def test_the_memory_of_the_default_plan_grows_with_the_model_and_is_none_where_it_does_not_fit() -> None:
    small, large = curated_model("Qwen/Qwen3-0.6B"), curated_model("Qwen/Qwen3-8B")
    assert small is not None and large is not None
    roomy = gpu(400)  # where both take all rows of a step at once
    assert 0 < (planned_memory(small, roomy) or 0) < (planned_memory(large, roomy) or 0) <= 400 * GIB
    assert planned_memory(large, gpu(4)) is None
