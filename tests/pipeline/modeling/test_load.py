"""The base model in each precision mode, from a folder and from a GGUF file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.base_model import gguf_reader
from pipeline.base_model.locate import BaseModel
from pipeline.common.errors import BadInput
from pipeline.config.schema import LoraSection, PrecisionMode
from pipeline.modeling.adapter import add_adapter, load_adapter
from pipeline.modeling.load import load_base
from pipeline.system.gpu import Device, cpu_device
from pipeline.training.checkpointing.contents import write_adapter
from tests import families, tiny

CPU = Device("cpu", "CPU")
MODES: list[PrecisionMode] = ["qlora_nf4", "lora_int8", "lora_bf16", "lora_fp16"]
IDS = torch.arange(3, 40)[None]
LINEARS = 14  # of two layers: q, k, v, o, gate, up, down


def base_at(folder: Path) -> BaseModel:
    return BaseModel(folder, "folder", folder.name)


@pytest.fixture(scope="module")
def gguf_model(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> BaseModel:
    """The tiny model's weights in 32 bits as a GGUF file."""
    return BaseModel(tiny.save_gguf(tiny_model, tmp_path_factory.mktemp("gguf") / "tiny.gguf"), "gguf", "tiny")


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits.float()


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", MODES)
def test_only_the_linear_layers_are_quantized_and_all_weights_are_frozen(
    tiny_model: Path, mode: PrecisionMode, compute_dtype: str
) -> None:
    model = load_base(base_at(tiny_model), mode, CPU, compute_dtype=compute_dtype)
    held = {"qlora_nf4": torch.uint8, "lora_int8": torch.int8, "lora_bf16": torch.bfloat16, "lora_fp16": torch.float16}[mode]
    rest = torch.bfloat16 if compute_dtype == "bfloat16" else torch.float32
    found = {name: parameter.dtype for name, parameter in model.named_parameters()}
    linear = {name for name in found if "_proj" in name}
    assert len(linear) == LINEARS and {found[name] for name in linear} == {held}
    assert {dtype for name, dtype in found.items() if name not in linear} == {rest}
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.config.use_cache is False


def test_nf4_is_double_quantized(tiny_model: Path) -> None:
    model = load_base(base_at(tiny_model), "qlora_nf4", CPU, compute_dtype="float32")
    state = model.model.layers[0].mlp.up_proj.weight.quant_state
    assert state.quant_type == "nf4" and state.nested and state.absmax.dtype == torch.uint8


@pytest.mark.parametrize(("mode", "most"), [("qlora_nf4", 0.15), ("lora_int8", 0.03), ("lora_bf16", 0.01), ("lora_fp16", 0.002)])
def test_each_mode_computes_nearly_what_the_weights_say(tiny_model: Path, plain: Any, mode: PrecisionMode, most: float) -> None:
    exact = logits(plain)
    found = logits(load_base(base_at(tiny_model), mode, CPU, compute_dtype="float32"))
    assert (found - exact).norm() / exact.norm() < most
    assert not torch.equal(found, exact)


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model)


def test_evaluating_does_not_change_the_weights(tiny_model: Path) -> None:
    """bitsandbytes packs NF4 weights anew in evaluation mode on some CPUs, and then passes no gradient through them."""
    model = load_base(base_at(tiny_model), "qlora_nf4", CPU, compute_dtype="bfloat16")
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    scales = model.model.layers[0].mlp.up_proj.weight.quant_state.absmax.clone()
    logits(model.eval())
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight.quant_state.absmax, scales)


@pytest.mark.parametrize("mode", MODES)
def test_a_gguf_file_is_a_base_model_like_its_folder(gguf_model: BaseModel, tiny_model: Path, mode: PrecisionMode) -> None:
    from_file = load_base(gguf_model, mode, CPU, compute_dtype="float32")
    from_folder = load_base(base_at(tiny_model), mode, CPU, compute_dtype="float32")
    assert torch.allclose(logits(from_file), logits(from_folder), atol=1e-4)
    assert not hasattr(from_file.config, "quantization_config") or mode in ("qlora_nf4", "lora_int8")


@pytest.mark.parametrize("change", ["missing", "of another shape"])
def test_a_gguf_file_without_a_weight_is_refused_and_none_is_made_up(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    add = gguf.GGUFWriter.add_tensor

    def add_changed(self: Any, name: str, data: Any, *args: Any, **options: Any) -> None:
        if name != "output_norm.weight":
            add(self, name, data, *args, **options)
        elif change != "missing":
            add(self, name, data[:32].copy(), *args, **options)

    monkeypatch.setattr(gguf.GGUFWriter, "add_tensor", add_changed)
    base = BaseModel(tiny.save_gguf(tiny_model, tmp_path / "x.gguf"), "gguf", "x")
    with pytest.raises(BadInput, match=r"weights (are missing|are of other shapes)"):
        load_base(base, "lora_bf16", CPU)


def test_a_gguf_file_is_read_once_for_all_that_is_made_of_it(
    gguf_model: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = BaseModel(Path(shutil.copyfile(gguf_model.path, tmp_path / "model.gguf")), "gguf", "copied")
    read: list[str] = []

    made = gguf_reader._Reader

    def reader(path: str) -> Any:
        if Path(path) == copied.path:  # not a copy of its head
            read.append(path)
        return made(path)

    monkeypatch.setattr(gguf_reader, "_Reader", reader)
    first = load_base(copied, "lora_bf16", CPU)
    second = load_base(copied, "lora_bf16", CPU)
    assert read == [str(copied.path)] and torch.equal(logits(first), logits(second))
    assert gguf.GGUFReader is not gguf_reader._reader_of, "others read as they did"
    weights = bytearray(copied.path.read_bytes())
    weights[-40] ^= 1
    copied.path.write_bytes(weights)
    load_base(copied, "lora_bf16", CPU)
    assert len(read) == 2, "a file that changed is another one"


def test_a_widened_layer_passes_the_gradient_of_the_exact_product() -> None:
    from pipeline.modeling.widened_linear import WidenedLinear

    exact = torch.nn.Linear(8, 5, bias=True).requires_grad_(False)
    exact.weight.data = exact.weight.data.half().float()
    held = torch.nn.Linear(8, 5, bias=True).requires_grad_(False)
    held.load_state_dict(exact.state_dict())
    held.weight.data = held.weight.data.half()
    held.__class__ = WidenedLinear
    inputs = [torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2)]
    for layer, each in zip((exact, held), inputs, strict=True):
        layer(each).square().sum().backward()
    assert torch.allclose(inputs[0].grad, inputs[1].grad)


# --------------------------------------------------------------------------------------------------- refusals


@pytest.fixture
def copied(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_linear_layers_of_a_models_own_class_compute_in_32_bits_too(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = families.save("falcon", tmp_path / "falcon")
    loaded = load_base(BaseModel(folder, "folder", "falcon"), "lora_bf16", cpu_device(), compute_dtype="float32")
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).float()
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.allclose(loaded(input_ids=ids).logits, plain(input_ids=ids).logits, atol=1e-4)


def test_weights_that_are_missing_are_refused_not_made_up(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match=r"1 weights are missing.*model\.layers\.1\.mlp\.up_proj"):
        load_base(base_at(copied), "lora_bf16", CPU, compute_dtype="float32")


def test_a_file_cut_short_is_bad_input(copied: Path) -> None:
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="is cut short"):
        load_base(base_at(copied), "qlora_nf4", CPU, compute_dtype="float32")


def test_pickled_weights_are_not_loaded(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    torch.save(weights, copied / "pytorch_model.bin")
    with pytest.raises(BadInput, match="can't be read"):
        load_base(base_at(copied), "lora_bf16", CPU, compute_dtype="float32")


def test_a_model_that_is_quantized_already_is_refused(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    with pytest.raises(BadInput, match="quantized already"):
        load_base(base_at(copied), "qlora_nf4", CPU, compute_dtype="float32")


# --------------------------------------------------------------------------------------------------- adapters


def test_an_adapter_comes_back_as_it_was_saved(tiny_model: Path, tmp_path: Path) -> None:
    def fresh() -> Any:
        return load_base(base_at(tiny_model), "qlora_nf4", CPU, compute_dtype="float32")

    adapted = add_adapter(fresh(), LoraSection(), seed=1)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in trained} == {torch.float32} and len(trained) == 28
    for parameter in trained:
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))
    write_adapter(adapted, tmp_path)
    loaded = load_adapter(fresh(), tmp_path)
    assert torch.equal(logits(loaded), logits(adapted.eval()))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    with loaded.disable_adapter():
        assert torch.equal(logits(loaded), logits(fresh()))


def test_an_adapter_of_another_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    from tests import tiny

    wider = tiny.save_model(tmp_path / "wider", hidden_size=96)
    write_adapter(add_adapter(load_base(base_at(wider), "lora_bf16", CPU), LoraSection(), 0), tmp_path)
    with pytest.raises(BadInput, match="no adapter for this model"):
        load_adapter(load_base(base_at(tiny_model), "lora_bf16", CPU), tmp_path)
    with pytest.raises(BadInput, match="no adapter for this model"):
        load_adapter(load_base(base_at(tiny_model), "lora_bf16", CPU), tmp_path / "nowhere")
