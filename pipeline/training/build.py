"""The model of a plan, ready to be trained."""

from __future__ import annotations

import os
from typing import Any

import torch

from pipeline.base_model.locate import BaseModel
from pipeline.base_model.precision import require_precision
from pipeline.common.errors import BadInput
from pipeline.config.schema import Config
from pipeline.modeling.adapter import add_adapter
from pipeline.modeling.load import load_base
from pipeline.planning.memory_plain import CONTEXT_BYTES
from pipeline.planning.plan import Plan
from pipeline.system.gpu import GIB, Device
from pipeline.training import attention
from pipeline.training.fused import train_step
from pipeline.training.fused.decoder import FusedModel
from pipeline.training.fused.train_step import FusedStep
from pipeline.training.memory_recovery.activation_checkpointing import ModelActivations
from pipeline.training.memory_recovery.limits import Limits


def prepare_device(config: Config, device: Device) -> None:
    """Hold this process to `compute.memory_limit_gib` and `train.deterministic`, before anything is on the device.

    On a CPU it changes nothing.
    """
    if device.kind != "cuda":
        return
    if config.compute.memory_limit_gib is not None:
        # Bytes; torch limits its own blocks only, and the context lies beside them.
        blocks = config.compute.memory_limit_gib * GIB - CONTEXT_BYTES["cuda"]
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, max(0.0, blocks / total)))
    if config.train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when its first product is computed
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads what nobody wrote


def trainable(config: Config, base: BaseModel, plan: Plan, device: Device, limits: Limits) -> tuple[Any, FusedStep | None]:
    """The model to train, and what computes its losses and gradients.

    Args:
        limits: what the run has learned about memory: whether activations are recomputed whatever the plan says.

    Returns:
        a `PeftModel` of the base with a new adapter; the fused step over the same weights, None where the model trains itself.

    Raises:
        BadInput: the plan names something this version or this model doesn't have.
        EnvironmentFault: the precision mode does not work on this device.
    """
    require_precision(config.train.precision_mode, device)
    model = load_base(
        base,
        config.train.precision_mode,
        device,
        compute_dtype=plan.compute_dtype,
        attention=attention.implementation(plan.attention),
    )
    if plan.kernels == "plain" and (plan.gradient_checkpointing or limits.checkpointing):
        ModelActivations(model).recompute()
    adapted = add_adapter(model, config.train.lora, config.seed)
    return adapted, _fused(config, adapted, plan, limits) if plan.kernels == "fused" else None


def _fused(config: Config, adapted: Any, plan: Plan, limits: Limits) -> FusedStep:
    causal = adapted.get_base_model()
    problem = train_step.unsupported(causal, plan.row_tokens)
    if problem:
        raise BadInput(f"train.kernels: the fused ones do not work here: {problem}", "humigence config set train.kernels plain")
    fused = FusedModel(
        adapted,
        getattr(torch, plan.compute_dtype),
        recomputed_layers=causal.config.num_hidden_layers if limits.checkpointing else plan.recomputed_layers,
        keep_dequantized=plan.keep_dequantized,
        dropout=config.train.lora.dropout,
    )
    return FusedStep(fused, config.seed, plan.micro_batch * plan.row_tokens, one_size=config.train.deterministic)
