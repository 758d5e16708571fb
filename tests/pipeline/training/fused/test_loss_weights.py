"""Weights in the loss: what they scale, the same in the model's own and in the fused layers, held against plain torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.dataset.loss_weights import Collected, LossWeights
from pipeline.evaluation import scoring
from pipeline.runs.events import Evaluated, TrainStep
from pipeline.training import varlen
from pipeline.training.fused.torch_ops import cross_entropy_
from pipeline.training.fused.train_step import FusedStep
from pipeline.training.isolation import model_inputs
from pipeline.training.loss import loss_sum
from pipeline.training.memory_recovery.split_batch import halves
from pipeline.training.packed_rows import Document, PackedRow, collate
from tests.pipeline.training.fused.conftest import fused, gradients
from tests.pipeline.training.tiny_training import MadeUpData, TinyRun, config_for, plan_for

TOKENS = 100  # of the step


def rows(weights: Callable[[int], Any]) -> list[PackedRow]:
    """Two rows of three and two documents, half of each trained. `weights`: of a document of so many tokens."""
    draw = np.random.default_rng(0)
    made = []
    for lengths in ([5, 40, 12], [33, 20]):
        documents = [draw.integers(3, 300, count) for count in lengths]
        made.append(
            [Document(ids, np.where(np.arange(len(ids)) < len(ids) // 2, -100, ids), weights(len(ids))) for ids in documents]
        )
    return made


def drawn(count: int) -> Any:
    return np.random.default_rng(count).uniform(0.1, 3, count).astype(np.float32)


def reference(model: Any, some: list[PackedRow]) -> float:
    """The documents one by one through the model, a token's loss at a time; leaves its gradients at the parameters."""
    total = torch.zeros(())
    for document in (each for row in some for each in row):
        logits = model(input_ids=torch.from_numpy(document.ids)[None]).logits[0].log_softmax(-1)
        for place in range(1, len(document.ids)):
            if document.labels[place] >= 0:
                weight = 1.0 if document.weights is None else float(document.weights[place])
                total = total - weight * logits[place - 1, int(document.labels[place])] / TOKENS
    torch.autograd.backward(total)
    return float(total.detach())


def own(model: Any, batch: Mapping[str, Any]) -> float:
    given = {name: value for name, value in batch.items() if name not in ("real_tokens", "trained_tokens")}
    labels, weights = given.pop("labels"), given.pop("weights", None)
    loss = loss_sum(model(**given, use_cache=False).logits, labels, weights) / TOKENS
    torch.autograd.backward(loss)
    return float(loss.detach())


@pytest.mark.parametrize("way", ["own", "fused", "fused, padded", "indices", "halves"])
def test_every_way_of_a_step_is_the_weighted_sum_token_by_token(adapted: Callable[..., Any], way: str) -> None:
    model, some = adapted(), rows(drawn)
    wanted, batch = reference(model, some), collate(some)
    wanted_gradients = gradients(model)
    model.zero_grad()
    step = FusedStep(fused(model), 0, 1024, one_size=way.endswith("padded"))
    if way.startswith("fused"):
        found = float(step.loss(batch, TOKENS, 0))
    elif way == "own":
        found = own(model, batch)
    elif way == "indices":
        flat = model_inputs(batch, "indices")
        found = own(model, {name: flat[name] for name in ("input_ids", "labels", "position_ids", "weights")})
        assert "weights" in varlen.as_one_sequence(dict(batch))
    else:
        found = sum(float(step.loss(part, TOKENS, 0)) for half in halves(batch) for part in halves(half))
    assert found == pytest.approx(wanted, rel=1e-5)
    assert float((gradients(model) - wanted_gradients).abs().max()) < 1e-5 * float(wanted_gradients.abs().max())


@pytest.mark.parametrize("way", ["own", "fused"])
def test_weight_two_is_twice_the_gradient_and_weight_one_none_at_all(adapted: Callable[..., Any], way: str) -> None:
    model = adapted()
    ask = (lambda batch: float(FusedStep(fused(model), 0).loss(batch, TOKENS, 0))) if way == "fused" else lambda b: own(model, b)
    found = []
    for weights in (lambda _: None, lambda count: np.ones(count, np.float32), lambda count: np.full(count, 2, np.float32)):
        loss = ask(collate(rows(weights)))
        found.append((loss, gradients(model).clone()))
        model.zero_grad()
    (plain, plain_gradients), (one, one_gradients), (two, two_gradients) = found
    assert one == pytest.approx(plain, rel=1e-6) and two == pytest.approx(2 * plain, rel=1e-6)
    largest = float(plain_gradients.abs().max())
    assert float((one_gradients - plain_gradients).abs().max()) < 1e-6 * largest
    assert float((two_gradients - 2 * plain_gradients).abs().max()) < 1e-5 * largest


def test_a_weight_of_zero_is_no_label(adapted: Callable[..., Any]) -> None:
    model = adapted()
    silent = rows(lambda count: np.where(np.arange(count) < count * 3 // 4, 0, 1).astype(np.float32))
    without = [
        [Document(each.ids, np.where(np.arange(len(each.ids)) < len(each.ids) * 3 // 4, -100, each.labels)) for each in row]
        for row in silent
    ]
    found = []
    for some in (silent, without):
        loss = float(FusedStep(fused(model), 0).loss(collate(some), TOKENS, 0))
        found.append((loss, gradients(model).clone()))
        model.zero_grad()
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-7)


def test_the_losses_of_a_kernel_are_weighted_as_its_gradients_are() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, weights = torch.randn(20, 50, generator=draw), torch.rand(20, generator=draw) * 3
    targets = torch.randint(0, 50, (20,), generator=draw).int()
    targets[::4] = -100
    scale = torch.tensor([0.01])
    wide = logits.clone().requires_grad_()
    losses = torch.nn.functional.cross_entropy(wide, targets.long(), reduction="none", ignore_index=-100) * weights
    (losses.sum() * 0.01).backward()
    overwritten = logits.clone()
    assert torch.allclose(cross_entropy_(overwritten, targets, scale, weights, gradient=True), losses.detach(), atol=1e-6)
    assert wide.grad is not None and torch.allclose(overwritten, wide.grad, atol=1e-8)


# ------------------------------------------------------------------------------------------------ whole trainings


def weights_of(folder: Path, data: MadeUpData, split: str, weight: Callable[[int], float]) -> LossWeights:
    """As a prepared folder holds them: all trained tokens of document n weigh `weight(n)`."""
    collected, labels = Collected(), data.dataset(split)["labels"]
    for number, its_labels in enumerate(labels):
        collected.add(number, [(len(its_labels) // 3, len(its_labels), weight(number))])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}.loss_weights.npy"
    collected.write(path, np.arange(len(labels)))
    return LossWeights(path, sum(len(each) - len(each) // 3 for each in labels))


def trained(root: Path, model: Path, weight: Callable[[int], float] | None, **plan: Any) -> TinyRun:
    data = MadeUpData()
    if weight:
        data = MadeUpData(weights={split: weights_of(root, data, split, weight) for split in ("train", "val")})
    config = config_for(model, eval__samples_per_eval=0, train__lora__dropout=0.0)
    run = TinyRun(root, config)
    run.train(data, plan_for(config, data, **plan))
    return run


def figures(run: TinyRun) -> list[float]:
    return [each.loss for each in run.of(TrainStep)] + [each.loss for each in run.of(Evaluated)]


def test_own_and_fused_layers_train_alike_and_weights_matter(tmp_path: Path, tiny_model: Path) -> None:
    def some(number: int) -> float:
        return 0.25 if number % 2 else 2.0

    plain = trained(tmp_path / "plain", tiny_model, some, kernels="plain")
    both = trained(tmp_path / "fused", tiny_model, some, kernels="fused")
    assert figures(both) == pytest.approx(figures(plain), rel=1e-4)
    again = trained(tmp_path / "again", tiny_model, some, kernels="fused")
    assert figures(again) == figures(both)
    one = trained(tmp_path / "one", tiny_model, None, kernels="fused")
    assert figures(both) != pytest.approx(figures(one), rel=1e-3)


def test_what_all_tokens_weigh_alike_changes_nothing(tmp_path: Path, tiny_model: Path) -> None:
    """Learning rate, clipping and the loss that is shown mean the same: weights are relative to their mean."""
    heavy = trained(tmp_path / "heavy", tiny_model, lambda _: 5.0)
    assert figures(heavy) == pytest.approx(figures(trained(tmp_path / "one", tiny_model, None)), rel=1e-4)


def test_the_held_out_loss_weighs_as_training_does(plain_model: Any) -> None:
    """In evaluation as while training: the sum of weighted losses over the sum of the weights."""

    class Adapted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = plain_model

        def disable_adapter(self) -> Any:
            from contextlib import nullcontext

            return nullcontext()

        def forward(self, **given: Any) -> Any:
            return self.inner(**given)

    some = [each for row in rows(drawn) for each in row]
    with torch.no_grad():
        total = sum(TOKENS * reference_without_gradients(plain_model, each) for each in some)
    weight = sum(float(each.weights[1:][each.labels[1:] >= 0].sum()) for each in some if each.weights is not None)
    scored = [scoring.ScoredRow(each.ids.tolist(), each.labels.tolist(), each.weights) for each in some]
    base, tuned = scoring.compare(Adapted(), scored, [len(each.ids) for each in some], 64)
    assert base.loss == tuned.loss == pytest.approx(total / weight, rel=1e-5)
    assert base.tokens == sum(int((each.labels[1:] >= 0).sum()) for each in some)


def reference_without_gradients(model: Any, document: Document) -> float:
    logits = model(input_ids=torch.from_numpy(document.ids)[None]).logits[0].log_softmax(-1)
    places = np.flatnonzero(document.labels >= 0)
    assert document.weights is not None
    return float(-sum(document.weights[n] * logits[n - 1, int(document.labels[n])] for n in places if n)) / TOKENS
