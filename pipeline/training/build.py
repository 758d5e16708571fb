"""The model of a plan, ready to be trained, and proved to compute what the plan rests on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch

from pipeline.base_model.locate import BaseModel
from pipeline.base_model.precision import require_precision
from pipeline.common.errors import BadInput
from pipeline.config.schema import Config
from pipeline.modeling.adapter import add_adapter
from pipeline.modeling.load import load_base
from pipeline.modeling.loading_progress import Progress
from pipeline.planning.compute import Isolation
from pipeline.planning.memory_plain import CONTEXT_BYTES
from pipeline.planning.plan import Plan
from pipeline.planning.proved import Refused, libraries
from pipeline.runs.events import LayersProved
from pipeline.runs.progress import no_phase
from pipeline.system.gpu import GIB, Device
from pipeline.system.out_of_memory import NO_ROOM, free, unless_short
from pipeline.training import attention
from pipeline.training.fused.decoder import FusedModel
from pipeline.training.fused.proof import fused_problem
from pipeline.training.fused.train_step import FusedStep
from pipeline.training.memory_recovery.activation_checkpointing import ModelActivations
from pipeline.training.memory_recovery.faults import training_fault
from pipeline.training.memory_recovery.limits import Limits
from pipeline.training.packed_rows import Document
from pipeline.training.proof import Proof, prove


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


@dataclass(frozen=True)
class Built:
    """What trains.

    Attributes:
        model: a `PeftModel` of the base with a new adapter.
        fused: the fused step over the same weights, None where the model trains itself.
        plan: the one it was built for, which names what was proved.
        proof: what was found at this load; None where the plan was proved by an earlier one.
    """

    model: Any
    fused: FusedStep | None
    plan: Plan
    proof: LayersProved | None


Replan = Callable[[Refused], Plan]
"""A plan for what a proof has refused."""


def build_proved(
    config: Config,
    base: BaseModel,
    plan: Plan,
    device: Device,
    limits: Limits,
    documents: Sequence[Document],
    replan: Replan,
    progress: Progress = no_phase,
) -> Built:
    """Load the model of a plan and prove on it what the plan rests on; where that fails, build what `replan` gives instead.

    Args:
        limits: what the run has learned about memory: whether activations are recomputed whatever the plan says.
        documents: some of the run's, the longest among them.
        replan: called with everything that was refused so far.
        progress: told what is being done, and how far it is.

    Raises:
        BadInput: the plan names something this version or this model doesn't have; fused layers that were set by hand don't hold.
        EnvironmentFault: the precision mode does not work on this device, or what was planned instead does not fit.
        OutOfMemory: there is no room for a pass of a few dozen tokens.
    """
    refused = Refused()
    while True:
        model = _loaded(config, base, plan, device, limits, progress)
        # What need not be asked is not built: the fused layers may not know what to do with such a model.
        problem = fused_problem(model.get_base_model(), plan.device) if plan.kernels == "fused" else ""
        fused = _fused(config, model, plan, limits) if plan.kernels == "fused" and not problem else None
        if plan.proved.get("libraries") == libraries() and not problem:
            return Built(model, fused, plan, None)
        progress("proving that the layers compute what they should")
        proof = Proof(no_fused=problem) if problem else _proof(config, model, fused, plan, documents)
        refused = replace(refused, fused=refused.fused or proof.no_fused, packing=refused.packing or proof.no_packing)
        if config.train.kernels == "fused" and refused.fused:
            why = f"train.kernels: the fused ones do not work here: {refused.fused}"
            raise BadInput(why, "humigence config set train.kernels auto")
        wanted = replan(refused) if proof.no_fused or proof.no_packing else plan
        if proof.event and (wanted.kernels, wanted.isolation) == (plan.kernels, plan.isolation):
            return _as_proved(model, fused, plan, proof.event, refused)
        plan = wanted
        del model, fused
        free()


def _proof(config: Config, model: Any, fused: FusedStep | None, plan: Plan, documents: Sequence[Document]) -> Proof:
    for _ in range(2):  # somebody else's memory may be gone by then
        found = unless_short(lambda: prove(model, fused.model if fused else None, plan, documents))
        if found is not NO_ROOM:
            return found
    raise training_fault(config, plan.row_tokens, "a pass of a few dozen tokens finds no room", 0, None)


def _as_proved(model: Any, fused: FusedStep | None, plan: Plan, event: LayersProved, refused: Refused) -> Built:
    own = f"the model's own layers are trained: {refused.fused}" if refused.fused else ""
    one = f"packing is off: {refused.packing}" if refused.packing and event.isolated else event.reason
    event = replace(event, reason="; ".join(filter(None, [own, one])))
    how = cast(Isolation, event.how)
    return Built(model, fused, replace(plan, isolation=how, proved=asdict(event) | {"libraries": libraries()}), event)


def _loaded(config: Config, base: BaseModel, plan: Plan, device: Device, limits: Limits, progress: Progress) -> Any:
    require_precision(config.train.precision_mode, device)
    model = load_base(
        base,
        config.train.precision_mode,
        device,
        compute_dtype=plan.compute_dtype,
        attention=attention.implementation(plan.attention),
        progress=progress,
    )
    if plan.kernels == "plain" and (plan.gradient_checkpointing or limits.checkpointing):
        ModelActivations(model).recompute()
    return add_adapter(model, config.train.lora, config.seed)


def _fused(config: Config, adapted: Any, plan: Plan, limits: Limits) -> FusedStep:
    fused = FusedModel(
        adapted,
        getattr(torch, plan.compute_dtype),
        recomputed_layers=plan.recomputed_layers,
        keep_dequantized=plan.keep_dequantized,
        dropout=config.train.lora.dropout,
    )
    if limits.checkpointing:
        fused.recompute()
    return FusedStep(fused, config.seed, plan.micro_batch * plan.row_tokens, one_size=config.train.deterministic)
