"""`humigence infer`: one answer, streamed to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from humigence_tui.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, open_project
from humigence_tui.cli.terminal import out_json, out_piece, say
from pipeline import gpu, packaged
from pipeline.base_model.locate import require
from pipeline.config import Config
from pipeline.errors import BadInput
from pipeline.export.folder import MANIFEST
from pipeline.runs import Workspace

app = typer.Typer(add_completion=False, rich_markup_mode=None)

# Far more than any context; a file piped in by mistake is refused before the model is loaded.
_MOST_CHARACTERS = 1_000_000
Answer = Callable[[str, int, float, int], Iterator[str]]


@app.command()
def infer(
    prompt: Annotated[str, typer.Option("--prompt", "-m", metavar="TEXT", help="What to ask; - reads it from standard input.")],
    config: ConfigPath = DEFAULT_CONFIG,
    project: Annotated[str | None, typer.Option("--project", "-p", metavar="NAME", help="Whose package; the config's.")] = None,
    artifacts: Annotated[str | None, typer.Option("--artifacts", metavar="FOLDER", help="A package anywhere.")] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0, max=5, help="0 takes the likeliest token.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, max=8192, help="Longest answer, in tokens.")] = 256,
    seed: Annotated[int, typer.Option("--seed", min=0, help="With a temperature: the same seed, the same answer.")] = 42,
    base: Annotated[bool, typer.Option("--base", help="Ask the base model, without the adapter.")] = False,
    as_json: AsJson = False,
) -> None:
    """The adapter is loaded on its base model in the precision it was trained in."""
    asked = _asked(prompt)
    here, settings = open_project(config)
    folder = _package_folder(here, settings, project, artifacts)
    answer = _base_alone(here, settings) if base and not (folder / MANIFEST).exists() else _packaged(settings, folder, base)
    pieces = answer(asked, max_new_tokens, temperature, seed)
    if as_json:
        out_json({"prompt": asked, "answer": "".join(pieces), "model": "base" if base else "tuned"})
        return
    for piece in pieces:
        out_piece(piece)
    out_piece("\n")


def _asked(prompt: str) -> str:
    text = sys.stdin.read(_MOST_CHARACTERS + 1) if prompt == "-" else prompt
    if not text.strip():
        raise BadInput("the prompt is empty", 'humigence infer --prompt "Explain overfitting simply."')
    if len(text) > _MOST_CHARACTERS:
        raise BadInput(f"the prompt is longer than {_MOST_CHARACTERS:,} characters")
    return text.rstrip("\n") if prompt == "-" else text


def _package_folder(here: Workspace, settings: Config, project: str | None, artifacts: str | None) -> Path:
    if artifacts is not None:
        return here.resolve(artifacts)
    return here.resolve(settings.export.artifacts_dir) / (project or settings.project)


def _packaged(settings: Config, folder: Path, without_adapter: bool) -> Answer:
    """The packaged model, or its base with the adapter set aside."""
    found = packaged.read(folder)
    if found.warning:
        say(found.warning, "amber")
    device = _device(settings, found.base.name)
    from pipeline.infer import load_packaged, stream, user_prompt

    model, tokenizer = load_packaged(found, device)

    def answer(text: str, most: int, temperature: float, seed: int) -> Iterator[str]:
        with model.disable_adapter() if without_adapter else nullcontext():
            yield from stream(model, tokenizer, user_prompt(tokenizer, text), most, temperature, seed)

    return answer


def _base_alone(here: Workspace, settings: Config) -> Answer:
    """The config's base model, before anything is packaged."""
    base = require(settings, here)
    device = _device(settings, base.name)
    from pipeline.base_model.load import load_base
    from pipeline.base_model.tokenizer import ChatTokenizer
    from pipeline.infer import stream, user_prompt

    model, tokenizer = load_base(base, settings.train.precision_mode, device), ChatTokenizer.load(base)
    return lambda text, most, temperature, seed: stream(model, tokenizer, user_prompt(tokenizer, text), most, temperature, seed)


def _device(settings: Config, name: str) -> gpu.Device:
    """The device to answer on; told before the libraries load, which takes seconds."""
    device = gpu.choose_device(settings.compute.gpu)
    gpu.see_only(device)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if sys.stderr.isatty():
        say(f"loading {name} on {device.name}", "dim")
    return device
