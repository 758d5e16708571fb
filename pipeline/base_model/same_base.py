"""Which base model a run trains on: noted before its first step, and asked of by whatever goes on with the run later.

Somebody may put other weights, or another vocabulary, under the same path. An adapter that was trained on the one and goes on,
is measured or packed with the other would be wrong and look right.
"""

from __future__ import annotations

import json
from typing import Any

from pipeline.base_model.locate import BaseModel
from pipeline.base_model.stop_tokens import named_stop_ids
from pipeline.common.errors import BadInput
from pipeline.common.files import fingerprint, read_json, write_json
from pipeline.runs.folders import RunFolder


def note(run: RunFolder, base: BaseModel) -> None:
    """Write into the run folder what the run is about to train on: name, path and fingerprints of its contents."""
    write_json(run.base_model, {"name": base.name, "path": str(base.path), **_contents(base)})


def difference(run: RunFolder, base: BaseModel) -> str:
    """What `base` has other than the run's base model ("its weights"); empty where nothing, or where the run has not noted it.

    Costs what the fingerprints cost: a megabyte of each weight file, and the whole of the others.
    """
    known = _noted(run)
    differing = [f"its {what}" for what, value in _contents(base).items() if known.get(what, value) != value]
    return " and ".join(differing)


def require_same(run: RunFolder | None, base: BaseModel) -> None:
    """Raise `BadInput` when a run that has begun to train would go on with another base model. Without a checkpoint it may."""
    if run is None or not run.checkpoints.is_dir():
        return
    if differing := difference(run, base):
        raise BadInput(
            f"{base.path} is not the base model that run {run.run_id} trains: {differing} changed since it began",
            f"put back what was at {_noted(run).get('path', base.path)} when it began, "
            "or start a new run with what is there now: humigence pipeline --train",
        )


def warning(run: RunFolder, base: BaseModel) -> str:
    """For whoever only asks the run's adapter something; empty where the base model is the run's."""
    differing = difference(run, base)
    return (
        f"{base.name} is not the base model this adapter was trained on: {differing} changed, so may the answers"
        if differing
        else ""
    )


def _contents(base: BaseModel) -> dict[str, str]:
    stops = fingerprint("stop tokens", sorted(named_stop_ids(base)))
    return {"weights": base.weights_fingerprint(), "tokenizer": base.own_tokenizer_fingerprint(), "stop tokens": stops}


def _noted(run: RunFolder) -> dict[str, Any]:
    """Empty for a run of an older version, and where the file is damaged: a run that can't be checked can still be resumed."""
    try:
        document = read_json(run.base_model)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return document if isinstance(document, dict) else {}
