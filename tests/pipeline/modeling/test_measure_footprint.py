"""The plan's activations and weights against what autograd saves and what is loaded, family by family, on the CPU."""

from __future__ import annotations

import re
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from pipeline.base_model import footprint as footprints
from pipeline.base_model.families import family_of
from pipeline.base_model.footprint import Footprint
from pipeline.base_model.locate import base_model_at
from pipeline.base_model.precision import ComputeDtype, weight_bytes
from pipeline.base_model.shape import ModelShape, read_shape
from pipeline.common.files import read_json
from pipeline.config.schema import PrecisionMode
from pipeline.modeling import measure_footprint
from pipeline.modeling.inspect_architecture import inspected
from pipeline.modeling.load import load_base
from pipeline.planning.memory_plain import ADAPTER_BYTES, MemoryEstimate, estimate
from pipeline.system.gpu import Device
from tests import families

TOKENS, RANK = 256, 8
CPU = Device("cpu", "CPU")
# A step a token in Python: half a minute each.
SLOW = {"recurrent-gemma", "mamba"}


def saved_bytes(model: Any) -> int:
    """Bytes autograd still holds after a forward pass over two packed documents, weights left out; a storage once."""
    owned = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}
    seen: list[weakref.ref[torch.Tensor]] = []

    def save(tensor: torch.Tensor) -> torch.Tensor:
        packed = tensor.view_as(tensor)  # nobody but autograd holds it
        seen.append(weakref.ref(packed))
        return packed

    ids = torch.randint(3, families.VOCABULARY, (1, TOKENS))
    positions = torch.arange(TOKENS // 2).repeat(2)[None]
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        output = model.train()(input_ids=ids, position_ids=positions, use_cache=False)
    assert output.logits.requires_grad
    storages = [tensor.untyped_storage() for each in seen if (tensor := each()) is not None]
    return sum({each.data_ptr(): each.nbytes() for each in storages if each.data_ptr() not in owned}.values())


class Loaded:
    """A family's tiny model with an adapter on all linear layers, and what was measured of it without its weights."""

    def __init__(
        self, name: str, folder: Path, mode: PrecisionMode, dtype: ComputeDtype, dropout: float, *, dora: bool = False
    ) -> None:
        base = base_model_at(families.save(name, folder, max_position_embeddings=2 * TOKENS, num_hidden_layers=4))
        document = read_json(base.path / "config.json")
        found = measure_footprint.footprint_of(document, device="cpu", compute_dtype=dtype, attention="sdpa")
        (key,) = found
        self.shape: ModelShape = read_shape(base)
        self.footprint: Footprint = found[key]
        self._mode, self._dtype, self._dropout, self._dora = mode, dtype, dropout, dora
        model = load_base(base, mode, CPU, compute_dtype=dtype, attention=key.rpartition(" ")[2])
        held = {each.data_ptr(): each.nbytes for each in model.parameters()}
        self.weight_bytes = sum(held.values())
        targets = inspected(model).targets
        self.targets = {each.name for each in targets}
        paths = {each.path for each in targets}
        modules = [name for name, _ in model.named_modules() if re.sub(r"\.\d+(?=\.|$)", ".*", name) in paths]
        lora = LoraConfig(r=RANK, lora_dropout=dropout, target_modules=modules, use_dora=dora)
        adapted = get_peft_model(model, lora)
        self.trained_parameters = adapted.get_nb_trainable_parameters()[0]
        self.saved_bytes = saved_bytes(adapted)

    def planned(self, footprint: Footprint | None) -> int:
        """Activations that the plan counts."""
        return self.estimated(footprint).activations

    def estimated(self, footprint: Footprint | None) -> MemoryEstimate:
        return estimate(
            self.shape, precision_mode=self._mode, compute_dtype=self._dtype, rank=RANK, target_modules=self.targets, rows=1,
            row_tokens=TOKENS, checkpointing=False, dropout=self._dropout, dora=self._dora, device="cpu",
            footprint=footprint,
        )  # fmt: skip


def check(loaded: Loaded, mode: PrecisionMode, dtype: ComputeDtype) -> None:
    assert loaded.planned(loaded.footprint) == pytest.approx(loaded.saved_bytes, rel=0.05)
    weights = loaded.footprint.weights
    # The quantized weights of a model this small are a few blocks each, the last of them not full.
    assert weight_bytes(loaded.shape, mode, dtype, weights) == pytest.approx(loaded.weight_bytes, rel=0.03)
    if family_of(loaded.shape.model_type).norms is not None:
        assert loaded.planned(None) == pytest.approx(loaded.saved_bytes, rel=0.05)


@pytest.mark.parametrize("name", families.names())
def test_the_plan_counts_what_autograd_saves(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in SLOW:
        pytest.skip("works token by token")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    check(Loaded(name, tmp_path / "model", "lora_bf16", "bfloat16", 0.0), "lora_bf16", "bfloat16")


@pytest.mark.matrix
@pytest.mark.parametrize("name", [name for name in families.FAMILIES if name not in SLOW])
def test_the_plan_counts_what_autograd_saves_in_32_bits_and_with_dropout(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    check(Loaded(name, tmp_path / "model", "qlora_nf4", "float32", 0.05), "qlora_nf4", "float32")


@pytest.mark.parametrize(
    ("name", "mode", "dtype", "dropout"),
    [
        ("qwen3", "lora_bf16", "bfloat16", 0.0), ("gpt2", "lora_bf16", "bfloat16", 0.1),
        ("granite4-hybrid", "qlora_nf4", "float32", 0.1), ("llama-3", "lora_bf16", "float32", 0.1),
    ],
)  # fmt: skip
def test_the_plan_counts_what_dora_trains_and_saves(
    name: str, mode: PrecisionMode, dtype: ComputeDtype, dropout: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    loaded = Loaded(name, tmp_path / "model", mode, dtype, dropout, dora=True)
    assert loaded.planned(loaded.footprint) == pytest.approx(loaded.saved_bytes, rel=0.05)
    assert loaded.estimated(loaded.footprint).adapter == ADAPTER_BYTES * loaded.trained_parameters


def test_what_was_measured_is_read_afterwards_and_only_for_the_same_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = families.config_of("lfm2").to_dict()
    assert footprints.read_footprints(config) == {}
    found = measure_footprint.footprint_of(config, device="cuda", compute_dtype="bfloat16", attention="varlen")
    assert footprints.read_footprints(config) == found
    assert list(found) == [footprints.key("cuda", "bfloat16", "varlen")]
    assert footprints.read_footprints({**config, "hidden_size": 128}) == {}
    for stored in tmp_path.rglob("*.json"):
        stored.write_text('{"cuda bfloat16 varlen": 3}')
    assert footprints.read_footprints(config) == {}, "a damaged file counts as none"


def test_layers_that_are_alike_are_run_twice_however_many_there_are() -> None:
    shallow, deep = (
        measure_footprint.measured(
            measure_footprint.meta_model(families.config_of("qwen3", num_hidden_layers=layers).to_dict()),
            device="cuda", compute_dtype="bfloat16", attention="varlen",
        )
        for layers in (3, 40)
    )  # fmt: skip
    assert [layer.count for layer in shallow.layers] == [1, 2] and [layer.count for layer in deep.layers] == [1, 39]
    assert [layer.saved for layer in shallow.layers] == [layer.saved for layer in deep.layers]
