"""Each family on a GPU, with the Triton kernels: fused as the model's own layers in 32 bits, and in 16 no further off than those.

In 32 bits a GPU's matrix units round the scores of attention to 10 bits of mantissa.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from pipeline.training.fused.decoder import FusedModel
from pipeline.training.fused.train_step import FusedStep, flatten_batch
from tests import families
from tests.pipeline.training.fused.conftest import fused, gradients, micro_batch
from tests.pipeline.training.fused.test_families import BATCH, DESCRIBED, STEP_TOKENS, adapted, own_gradients

HAS_GPU = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not HAS_GPU, reason="needs a GPU of capability 8")]
# What the model's own layers are off in 16 bits tells how much a family makes of a rounding: with 7 bits of mantissa.
ROUNDED = 0.15  # of that, with the scores alone rounded, to 10
NOISE = 1.5


def wide(name: str) -> Any:
    """The family with heads that there is a kernel for."""
    own = families.FAMILIES[name].settings
    settings = {key: value for key, value in {"head_dim": 32, "mamba_n_heads": 16}.items() if key in own}
    rotation = own.get("rope_parameters", {})
    twice = {key: 2 * value for key, value in rotation.items() if isinstance(value, list)}  # a number for each pair of features
    settings |= {"rope_parameters": rotation | twice} if twice else {}
    return adapted(name, hidden_size=128, **settings)


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.float() - wanted).norm() / wanted.norm())


def moved(batch: dict[str, Any], device: str) -> dict[str, Any]:
    return {name: each.to(device) if isinstance(each, torch.Tensor) else each for name, each in batch.items()}


@pytest.mark.parametrize("name", DESCRIBED)
def test_it_is_the_models_own(name: str) -> None:
    own16, batch = wide(name).to("cuda", torch.bfloat16), moved(micro_batch(*BATCH), "cuda")
    own = copy.deepcopy(own16).float()  # the same weights
    (loss, wanted), (_, noisy) = own_gradients(own, batch), own_gradients(own16, batch)
    found = []
    for recomputed in (0, 4):
        own.zero_grad()
        step = FusedStep(fused(own, recomputed_layers=recomputed), 0)
        assert float(step.loss(batch, STEP_TOKENS, recomputed)) == pytest.approx(loss, rel=1e-3)
        found.append(gradients(own))
    assert torch.equal(*found)
    inner = FusedModel(own16, torch.bfloat16, recomputed_layers=1, keep_dequantized=False, dropout=0.0)
    loss16 = float(FusedStep(inner, 0).loss(batch, STEP_TOKENS, 0))
    exact, own_noise, noise = (
        off(found[0], wanted),
        off(noisy, wanted),
        off(inner.adapter.gradients, wanted_in_order(own, wanted)),
    )
    print(f"{name:16} 32 bits {exact:.1e}   16 bits {noise:.1e}, its own layers {own_noise:.1e}   loss {loss16 / loss - 1:+.1e}")
    assert exact < ROUNDED * own_noise
    assert noise < NOISE * own_noise
    assert loss16 == pytest.approx(loss, rel=1e-2)


def wanted_in_order(model: Any, found: torch.Tensor) -> torch.Tensor:
    """Gradients of `gradients`' order, in the order of the flat ones."""
    trained = [each for each in model.parameters() if each.requires_grad]
    parts = dict(zip(map(id, trained), torch.split(found, [each.numel() for each in trained]), strict=True))
    order = sorted(trained, key=lambda each: each.data_ptr())  # views of one tensor
    return torch.cat([parts[id(each)] for each in order])


@pytest.mark.parametrize("name", DESCRIBED)
def test_with_dropout_it_is_what_plain_torch_computes(name: str) -> None:
    """The masks too: another one would make another gradient, which no rounding does."""
    model, batch = wide(name), micro_batch([128], [100, 28])
    found = []
    for device in ("cpu", "cuda"):
        on_it = copy.deepcopy(model).to(device)
        inner = fused(on_it, dropout=0.3, recomputed_layers=2)
        key, scale = torch.tensor([987_654_321_123], device=device), torch.tensor([1 / STEP_TOKENS], device=device)
        loss = inner.loss_and_gradients(flatten_batch(batch, torch.device(device)), scale, key)
        found.append((float(loss), inner.adapter.gradients.cpu()))
    (wanted_loss, wanted), (loss, gradient) = found
    assert loss == pytest.approx(wanted_loss, rel=1e-3)
    assert off(gradient, wanted) < 0.1
