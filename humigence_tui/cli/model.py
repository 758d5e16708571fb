"""`humigence model`: download the base model, or see whether it is here."""

from __future__ import annotations

from typing import Any

import typer

from humigence_tui.cli.alone import run_step
from humigence_tui.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, open_project
from humigence_tui.cli.terminal import out, out_json, table
from pipeline.base_model.locate import BaseModel, require
from pipeline.base_model.shape import ModelShape, read_shape
from pipeline.text import counted

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.command()
def download(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> int:
    """Fetch what is missing from the Hugging Face hub; safetensors or GGUF only."""
    return run_step("model", config, as_json)


@app.command()
def check(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Where the base model is and what shape it has; without the network. Exit code 5 when it is not here."""
    here, settings = open_project(config)
    base = require(settings, here)
    found = _facts(base, read_shape(base))
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
    for line in table(rows):
        out(line)


_SHAPE = ("hidden", "intermediate", "layers", "heads", "kv_heads", "head_dim", "vocabulary", "tied_embeddings", "max_positions")


def _facts(base: BaseModel, shape: ModelShape) -> dict[str, Any]:
    return {
        "name": base.name,
        "path": str(base.path),
        "kind": base.kind,
        "fingerprint": base.weights_fingerprint(),
        "shape": {name: getattr(shape, name) for name in _SHAPE},
    }
