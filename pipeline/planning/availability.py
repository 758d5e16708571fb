"""Why a curated model can't be chosen on this machine now, and what training it would take here."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.base_model.catalogue import MODELS, CuratedModel, how_to_get_access
from pipeline.base_model.families import family_of
from pipeline.base_model.hub_cache import has_token, hub_cache
from pipeline.base_model.precision import SMALLEST, compute_dtype
from pipeline.base_model.shape import ModelShape
from pipeline.common.errors import EnvironmentFault
from pipeline.config.schema import Config
from pipeline.planning.compute import computing
from pipeline.planning.memory_plain import estimate
from pipeline.planning.micro_batch import choose_micro_batch
from pipeline.planning.plan import ROWS_PER_STEP
from pipeline.system.disk import free_disk_bytes
from pipeline.system.gpu import GIB, Device


def by_size(device: Device | None, models: Sequence[CuratedModel] = MODELS) -> list[CuratedModel]:
    """The curated models as a person who chooses wants them: those this device has memory for first, small before large."""
    return sorted(models, key=lambda model: (bool(device and lacks_memory(model.shape, device)), model.parameters))


def availability(model: CuratedModel, device: Device | None = None) -> str | None:
    """Why this model can't be chosen on this machine now, or None when it can.

    Args:
        device: where it would train, with its free memory; None leaves memory out.
    """
    if device and (reason := lacks_memory(model.shape, device)):
        return reason
    if model.downloaded:
        return None
    if model.gated and not has_token():
        return f"gated: {how_to_get_access(model.repo)}"
    free = free_disk_bytes(hub_cache())
    if free < model.download_bytes:
        return f"needs {model.download_bytes / GIB:.1f} GiB on disk, {free / GIB:.1f} GiB free at {hub_cache()}"
    return None


def planned_memory(model: CuratedModel, device: Device) -> int | None:
    """Bytes at the peak of training it here with the default settings and rows enough; None where that does not fit."""
    config = Config()
    device = device.within(config.compute.memory_limit_gib)
    row_tokens = min(config.data.max_seq_len, model.context or config.data.max_seq_len)
    kernels = computing(config, model.shape, device, {}).kernels
    try:
        chosen = choose_micro_batch(config, model.shape, device, kernels, ROWS_PER_STEP, row_tokens, {})
    except EnvironmentFault:
        return None
    return chosen.memory.total


def lacks_memory(shape: ModelShape, device: Device) -> str | None:
    """What even the cheapest training (smallest weights, one short row, checkpointing) needs, where the device has less."""
    need = estimate(
        shape,
        precision_mode=SMALLEST,
        compute_dtype=compute_dtype(SMALLEST, device),
        rank=16,
        target_modules=family_of(shape.model_type).attention_layers,
        rows=1,
        row_tokens=512,
        checkpointing=True,
        device=device.kind,
    ).total
    if not device.total_bytes or need <= device.free_bytes:
        return None
    return f"needs {need / GIB:.1f} GiB of memory, {device.free_bytes / GIB:.1f} GiB free on {device.name}"
