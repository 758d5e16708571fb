"""`humigence serve`: a model behind OpenAI's protocol, on this machine."""

from __future__ import annotations

import os
import secrets
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from humigence_tui.cli.export import run_of, wanted_formats, with_formats
from humigence_tui.cli.shared.options import DEFAULT_CONFIG, ConfigPath, open_project, workspace
from humigence_tui.cli.shared.output import out, print_message
from humigence_tui.cli.shared.single_step import run_step, trained_run
from pipeline.base_model.gguf_header import read_header
from pipeline.base_model.locate import BaseModel
from pipeline.common.errors import BadInput, EnvironmentFault
from pipeline.common.files import read_json
from pipeline.common.text import size
from pipeline.config.schema import Config, ExportFormat
from pipeline.export import packaged
from pipeline.export.package_folder import MANIFEST
from pipeline.export.serving import LOOPBACK, Served, serving
from pipeline.planning.export_formats import EXPORT_FORMATS, gguf_bytes
from pipeline.runs.folders import RunFolder

app = typer.Typer(add_completion=False, rich_markup_mode=None)

# What is served where a package holds several, the first that is there.
_SERVED: tuple[ExportFormat, ...] = (
    "gguf_q8_0", "ollama", "gguf_f16", "gguf_bf16", "gguf_q5_1", "gguf_q5_0", "gguf_q4_1", "gguf_q4_0", "gguf_lora",
)  # fmt: skip
_MOST_CONTEXT = 8192
_BYTES_A_SECOND = 20_000_000  # about, of writing and opening, on two cores


@app.command()
def serve(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[RUN|FOLDER|GGUF]", help="A run, a package or a GGUF file; by default the config's newest run."),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    format_name: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="Which GGUF of the package; made where it is not there.")
    ] = None,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Another than loopback wants a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="0 for any that is free.")] = 8080,
    token: Annotated[
        str | None, typer.Option("--token", metavar="TOKEN", help="That each request carries; or HUMIGENCE_TOKEN.")
    ] = None,
    context: Annotated[int, typer.Option("--context", min=0, help="Tokens of the longest conversation; 0: up to 8,192.")] = 0,
) -> None:
    """llama.cpp's server: /v1/chat/completions with streaming, /v1/models, and a page to chat in a browser.

    Of a run or a package its GGUF file is served; where there is none, one is made first, once. Ctrl-C ends it.
    """
    token = token if token is not None else os.environ.get("HUMIGENCE_TOKEN", "")
    if host not in LOOPBACK and not token:
        token = secrets.token_urlsafe(24)
    served = _file(Path(what)) if what and what.endswith(".gguf") else _packaged(what, config, format_name)
    longest = read_header(Path(served["model"])).number("context_length") or _MOST_CONTEXT
    asked = context or min(longest, _MOST_CONTEXT)
    with serving(Served(**served, host=host, port=port, token=token, context=asked)) as running:
        print_message(
            f"{served['name']} at {running.address}/v1 (OpenAI's protocol), {asked:,} tokens of context; Ctrl-C ends it"
        )
        out(f"{running.address}/v1")
        if token:
            out(f"Authorization: Bearer {token}")
        try:
            code = running.process.wait()
        except KeyboardInterrupt:
            return
    raise EnvironmentFault(f"llama.cpp's server ended by itself (exit code {code})", "free memory, or a shorter --context")


def _file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(f"{path} is not there", "humigence export gguf_q8_0 makes one of the newest run")
    return {"model": str(path.absolute()), "name": path.stem}


def _packaged(what: str | None, config: str, format_name: str | None) -> dict[str, Any]:
    """The GGUF file of a package, made first where there is none."""
    chosen = wanted_formats(format_name)[0] if format_name else None
    if chosen and chosen not in _SERVED:
        raise BadInput(f"{chosen} is no GGUF file, and llama.cpp serves no other", f"--format {_SERVED[0]}")
    folder = Path(what) if what and (Path(what) / MANIFEST).is_file() else None
    if folder and (found := _there(folder, chosen)):
        return found
    here = workspace()
    run = run_of(here, what) if what else trained_run(config)
    settings = run.load_config() if what else open_project(config)[1]
    folder = here.resolve(settings.export.artifacts_dir) / settings.project
    if not _is_of(folder, run) or not _there(folder, chosen):
        _make(config, settings if what else None, run, folder, chosen)
    found = _there(folder, chosen)
    if not found:
        raise BadInput(f"{folder} holds no GGUF file", "humigence export gguf_q8_0 says why")
    return found


def _is_of(folder: Path, run: RunFolder) -> bool:
    return (folder / MANIFEST).is_file() and read_json(folder / MANIFEST).get("run_id") == run.run_id


def _there(folder: Path, chosen: ExportFormat | None) -> dict[str, Any] | None:
    """What of a package can be served."""
    if not (folder / MANIFEST).is_file():
        return None
    manifest = read_json(folder / MANIFEST)
    for name in (chosen,) if chosen else _SERVED:
        files = sorted((folder / EXPORT_FORMATS[name].folder).glob("*.gguf")) if name in manifest.get("formats", ()) else []
        if not files:
            continue
        model = {"name": str(manifest.get("project") or folder.name)}
        if name != "gguf_lora":
            return model | {"model": str(files[0].absolute())}
        base = packaged.read_packaged(folder).base
        if base.kind == "gguf":
            template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
            return model | {"model": str(base.path.absolute()), "lora": str(files[0].absolute()), "template": template}
    return None


def _make(config: str, settings: Config | None, run: RunFolder, folder: Path, chosen: ExportFormat | None) -> None:
    """Make a GGUF file of the run's result, and say what that takes."""
    from pipeline.base_model.locate import require_base_model

    own = settings or run.load_config()
    base = require_base_model(own, workspace())
    name: ExportFormat = chosen or _cheapest(own, base)
    kind = name.removeprefix("gguf_")
    needed = gguf_bytes(kind, base) if f"gguf_{kind}" in get_args(ExportFormat) and kind != "lora" else 0
    takes = f"{size(needed)}, about {max(1, round(needed / _BYTES_A_SECOND / 60))} min" if needed else "the adapter's size"
    print_message(f"there is no GGUF file of it yet: {name} is made in {folder} ({takes}), once; the next time it is used again")
    run_step("pack", config, False, run, partial(with_formats, (name,)), settings)


def _cheapest(config: Config, base: BaseModel) -> ExportFormat:
    """The adapter alone where the base is a GGUF file already."""
    return "gguf_lora" if base.kind == "gguf" and not config.train.lora.dora else "gguf_q8_0"
