"""Fused layers against the model's own: the same loss and the same gradients, in 32 bits on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch

from pipeline.training.fused.torch_ops import Dropout, dropped
from pipeline.training.fused.train_step import FusedStep, flatten_batch
from pipeline.training.loss import loss_sum
from tests.pipeline.training.fused.conftest import ALL_LINEAR, SameMask, fused, gradients, micro_batch

BATCH = ([5, 40, 1, 60], [22, 70], [128])
STEP_TOKENS = 177


def plain_loss(model: Any, batch: dict[str, Any], divided_by: int = STEP_TOKENS) -> torch.Tensor:
    """Each document alone through the model: no packing that could hide a leak."""
    total = torch.zeros(())
    for row in range(len(batch["input_ids"])):
        starts = [*torch.nonzero(batch["position_ids"][row] == 0).flatten().tolist(), batch["input_ids"].shape[1]]
        for start, end in pairwise(starts):
            ids, labels = (batch[name][row : row + 1, start:end] for name in ("input_ids", "labels"))
            total = total + loss_sum(model(input_ids=ids).logits, labels)
    return total / divided_by


@pytest.mark.parametrize("recomputed", [0, 2, 3])
@pytest.mark.parametrize(
    ("targets", "shape"),
    [
        (ALL_LINEAR, {}),
        (("q_proj", "k_proj", "v_proj", "o_proj"), {}),
        (("v_proj",), {}),
        (("k_proj", "up_proj"), {}),
        (("o_proj", "down_proj"), {"num_key_value_heads": 4}),
        (ALL_LINEAR, {"family": "qwen2"}),  # biases on query, key and value
        (("q_proj", "v_proj"), {"family": "mistral", "sliding_window": None, "num_key_value_heads": 1, "head_dim": 32}),
        (ALL_LINEAR, {"attention_bias": True, "mlp_bias": True}),
        (ALL_LINEAR, {"rank": 40}),  # too large to be deferred
    ],
)
def test_loss_and_gradients_are_the_models_own(
    adapted: Callable[..., Any], targets: Sequence[str], shape: dict[str, Any], recomputed: int
) -> None:
    model, batch = adapted(targets, **shape), micro_batch(*BATCH)
    loss = plain_loss(model, batch)
    loss.backward()
    wanted = gradients(model)
    model.zero_grad()
    found = FusedStep(fused(model, recomputed_layers=recomputed), 0).loss(batch, STEP_TOKENS, 0)
    assert float(found) == pytest.approx(loss.item(), rel=1e-5)
    assert float((gradients(model) - wanted).abs().max()) < 1e-5 * float(wanted.abs().max())


def test_micro_batches_of_a_step_add_up_and_the_next_step_begins_at_zero(adapted: Callable[..., Any]) -> None:
    model = adapted()
    step = FusedStep(fused(model), 0)
    whole = step.loss(micro_batch(*BATCH), STEP_TOKENS, 0)
    wanted = gradients(model)
    model.zero_grad()
    parts = [{name: value[i : i + 1] for name, value in micro_batch(*BATCH).items() if hasattr(value, "shape")} for i in range(3)]
    losses = []
    for part in parts:
        step.micro_batch_begins()
        losses.append(step.loss(part, STEP_TOKENS, 1))
    assert float(sum(losses)) == pytest.approx(float(whole), rel=1e-5)
    assert torch.allclose(gradients(model), wanted, atol=1e-5 * float(wanted.abs().max()))


def test_what_fills_a_micro_batch_up_changes_nothing(adapted: Callable[..., Any]) -> None:
    model, batch = adapted(), micro_batch([50, 70], [90])
    asked = FusedStep(fused(model, dropout=0.3), 0).loss(batch, STEP_TOKENS, 0)
    wanted = gradients(model)
    model.zero_grad()
    filled = FusedStep(fused(model, dropout=0.3), 0, 1024, one_size=True).loss(batch, STEP_TOKENS, 0)
    assert float(filled) == pytest.approx(float(asked), rel=1e-5)
    assert torch.allclose(gradients(model), wanted, atol=1e-5 * float(wanted.abs().max()))
    flat = flatten_batch(batch, torch.device("cpu"), 1024)
    assert flat.ids.numel() == 1024
    assert int((flat.doc_end - flat.doc_start).max()) == 128  # a long document of nothing would cost its attention


def test_a_document_sees_nothing_of_another(adapted: Callable[..., Any]) -> None:
    step = FusedStep(fused(adapted()), 0)
    batch, changed = micro_batch([50, 70]), micro_batch([50, 70])
    for each in (batch, changed):
        each["labels"][0, :50] = -100
    changed["input_ids"][0, :50] = 7
    assert step.loss_sum(batch) == step.loss_sum(changed)
    changed["input_ids"][0, 60] = 7
    assert step.loss_sum(batch) != step.loss_sum(changed)


def test_the_adapter_that_was_trained_is_the_one_peft_saves_and_the_model_answers_with(adapted: Callable[..., Any]) -> None:
    from peft import get_peft_model_state_dict

    model, batch = adapted(), micro_batch(*BATCH)
    step = FusedStep(fused(model), 0)
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=10.0)
    before = {name: value.clone() for name, value in get_peft_model_state_dict(model).items()}
    step.loss(batch, STEP_TOKENS, 0)
    optimizer.step()
    after = get_peft_model_state_dict(model)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert step.loss_sum(batch) == pytest.approx(float(plain_loss(model, batch, 1)), rel=1e-5)


# ------------------------------------------------------------------------------------------------------ dropout


def test_gradients_with_dropout_are_those_of_its_mask(adapted: Callable[..., Any]) -> None:
    model, batch = adapted(), micro_batch([128])
    key = torch.tensor([123_456_789_123_456_789])
    inner = fused(model, dropout=0.3)
    for number, layer in enumerate(model.get_base_model().model.layers):
        places = {"q_proj": 0, "k_proj": 0, "v_proj": 0, "o_proj": 1, "gate_proj": 2, "up_proj": 2, "down_proj": 3}
        for name, place in places.items():
            module = getattr(layer.self_attn if place < 2 else layer.mlp, name)
            module.lora_dropout["default"] = SameMask(Dropout(0.3, key, 4 * number + place))
    loss = plain_loss(model, batch)
    loss.backward()
    wanted = gradients(model)
    model.zero_grad()
    inner.adapter.hand_out_gradients()
    found = inner.loss_and_gradients(flatten_batch(batch, torch.device("cpu")), torch.tensor([1 / STEP_TOKENS]), key)
    assert float(found) == pytest.approx(float(loss), rel=1e-5)
    assert float((gradients(model) - wanted).abs().max()) < 1e-5 * float(wanted.abs().max())


def test_dropout_drops_its_share_and_follows_from_seed_step_and_micro_batch_alone(adapted: Callable[..., Any]) -> None:
    key = torch.tensor([987_654_321])
    kept = dropped(torch.ones(512, 512), Dropout(0.05, key, 3))
    assert float((kept == 0).float().mean()) == pytest.approx(0.05, abs=0.002)
    assert float(kept.mean()) == pytest.approx(1, abs=0.003)
    model, batch = adapted(), micro_batch(*BATCH)

    def drawn(seed: int, step: int, micro_batches: int = 1) -> float:
        made = FusedStep(fused(model, dropout=0.3), seed)
        for _ in range(micro_batches):
            made.micro_batch_begins()
        return float(made.loss(batch, STEP_TOKENS, step))

    torch.manual_seed(0)
    first = drawn(1, 5)
    torch.manual_seed(99)
    assert drawn(1, 5) == first
    assert len({first, drawn(2, 5), drawn(1, 6), drawn(1, 5, 2)}) == 4
