"""`humigence model`: which base models there are, download the one that is configured, or see whether it is here."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from humigence_tui.cli.shared.options import DEFAULT_CONFIG, AsJson, ConfigPath, open_project
from humigence_tui.cli.shared.output import out, out_json, table
from humigence_tui.cli.shared.single_step import run_step
from pipeline.base_model.catalogue import CuratedModel
from pipeline.base_model.locate import BaseModel, require_base_model
from pipeline.base_model.shape import ModelShape, read_shape
from pipeline.common.errors import BadInput
from pipeline.common.text import counted, parameters, size
from pipeline.planning.availability import availability, by_size, planned_memory
from pipeline.system.gpu import Device, choose_device

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.command()
def download(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> int:
    """Fetch what is missing from the Hugging Face hub; safetensors or GGUF only."""
    return run_step("model", config, as_json)


_MODEL_COLUMNS = ("model", "parameters", "context", "memory", "download", "licence", "", "what for")


@app.command("list")
def list_models(
    words: Annotated[list[str] | None, typer.Argument(metavar="[WORDS]", help="Only those with all of these.")] = None,
    as_json: AsJson = False,
) -> None:
    """Base models known to train here: what fits this machine first. Memory is what training takes at the default settings.

    Any other chat model of the hub goes too: set model.repo, or model.local_path for one on this machine.
    """
    device = choose_device("auto")
    wanted = [word.lower() for word in words or ()]
    found = [model for model in by_size(device) if all(word in _searched(model) for word in wanted)]
    if not found:
        raise BadInput(f"no curated model has these words: {' '.join(wanted)}", "humigence model list lists all of them")
    if as_json:
        out_json([_model_facts(model, device) for model in found])
        return
    for line in table([_model_row(model, device) for model in found], right=(1, 2, 3, 4), head=_MODEL_COLUMNS):
        out(line)


def _searched(model: CuratedModel) -> str:
    gate = "gated" if model.gated else ""
    return " ".join((model.repo, model.family, model.licence, model.what, gate)).lower()


def _model_row(model: CuratedModel, device: Device) -> tuple[str, ...]:
    memory = planned_memory(model, device)
    return (
        model.repo,
        parameters(model.parameters),
        counted(model.context),
        size(memory) if memory else "too little",
        size(model.download_bytes),
        model.licence,
        "here" if model.downloaded else "gated" if model.gated else "",
        model.what,
    )


def _model_facts(model: CuratedModel, device: Device) -> dict[str, Any]:
    return {
        "repo": model.repo,
        "family": model.family,
        "parameters": model.parameters,
        "context": model.context,
        "licence": model.licence,
        "gated": model.gated,
        "page": model.page,
        "what": model.what,
        "downloaded": model.downloaded,
        "download_bytes": model.download_bytes,
        "memory_bytes": planned_memory(model, device),
        "device": device.name,
        "unavailable": availability(model, device),
    }


@app.command()
def check(
    config: ConfigPath = DEFAULT_CONFIG,
    contents: Annotated[bool, typer.Option("--contents", help="Also compare every byte with what the hub announced.")] = False,
    as_json: AsJson = False,
) -> None:
    """Where the base model is and what shape it has; without the network. Exit code 5 when it is not here.

    Looks at names, sizes and headers, not at the weights' bytes: that is what --contents is for.
    """
    here, settings = open_project(config)
    base = require_base_model(settings, here)
    found = _facts(base, read_shape(base))
    if contents:
        found["contents"] = _compared(base)
    if as_json:
        out_json(found)
        return
    shape = found["shape"]
    rows = [
        ("model", found["name"]),
        ("path", found["path"]),
        ("kind", "GGUF file" if found["kind"] == "gguf" else "Hugging Face folder"),
        (
            "layers",
            f"{shape['layers']} of width {counted(shape['hidden'])}, {shape['heads']} heads, {shape['kv_heads']} for keys",
        ),
        ("vocabulary", f"{counted(shape['vocabulary'])} tokens"),
        ("context", f"{counted(shape['max_positions'])} tokens"),
    ]
    if contents:
        rows.append(("contents", _contents_text(found["contents"])))
    for line in table(rows):
        out(line)


def _compared(base: BaseModel) -> dict[str, Any]:
    """Raises `BadInput` when a file is not what the hub announced."""
    from pipeline.base_model.verify import compare_with_hub

    found = compare_with_hub(base)
    if found.damaged:
        names = ", ".join(path.name for path in found.damaged)
        remove = shlex.join(["rm", *(str(path.resolve()) for path in found.damaged)])
        hint = f"{remove}  # then: humigence model download"
        raise BadInput(f"{base.name} is damaged: {names} is not what the hub announced", hint)
    return {"as_announced": list(found.as_announced), "unknown": list(found.unknown)}


def _contents_text(contents: dict[str, Any]) -> str:
    same, unknown = len(contents["as_announced"]), len(contents["unknown"])
    if not same:
        return "nothing to compare with: only a hub cache tells what a file should hold"
    return f"{same} files as the hub announced them" + (f"; nothing is known of {unknown} more" if unknown else "")


_SHAPE = ("hidden", "intermediate", "layers", "heads", "kv_heads", "head_dim", "vocabulary", "tied_embeddings", "max_positions")


def _facts(base: BaseModel, shape: ModelShape) -> dict[str, Any]:
    return {
        "name": base.name,
        "path": str(base.path),
        "kind": base.kind,
        "fingerprint": base.weights_fingerprint(),
        "shape": {name: getattr(shape, name) for name in _SHAPE},
    }
