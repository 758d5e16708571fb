"""Why a curated model can't be chosen on this machine now."""

from __future__ import annotations

from pipeline.base_model.catalogue import CuratedModel
from pipeline.base_model.families import family_of
from pipeline.base_model.hub_cache import has_token, hub_cache
from pipeline.base_model.precision import SMALLEST, compute_dtype
from pipeline.base_model.shape import ModelShape
from pipeline.planning.memory_plain import estimate
from pipeline.system.disk import free_disk_bytes
from pipeline.system.gpu import GIB, Device


def availability(model: CuratedModel, device: Device | None = None) -> str | None:
    """Why this model can't be chosen on this machine now, or None when it can.

    Args:
        device: where it would train, with its free memory; None leaves memory out.
    """
    if device and (reason := _lacks_memory(model.shape, device)):
        return reason
    if model.downloaded:
        return None
    if model.gated and not has_token():
        return f"gated: {model.access_hint}"
    free = free_disk_bytes(hub_cache())
    if free < model.download_bytes:
        return f"needs {model.download_bytes / GIB:.1f} GiB on disk, {free / GIB:.1f} GiB free at {hub_cache()}"
    return None


def _lacks_memory(shape: ModelShape, device: Device) -> str | None:
    """Whether even the cheapest training (smallest weights, one short row, checkpointing) does not fit."""
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
