"""`humigence config`: view, get and set settings; list the keys; import another trainer's config."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from humigence_tui.cli.shared.options import DEFAULT_CONFIG, AsJson, ConfigPath, open_project, with_config, workspace
from humigence_tui.cli.shared.output import out, out_json, out_piece, print_message, print_next_commands, table
from pipeline.common.errors import BadInput
from pipeline.common.redact import redact
from pipeline.config import file as config_file
from pipeline.config import keys as config_keys
from pipeline.config.foreign.read import read_foreign
from pipeline.config.foreign.report import Report, short

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

KeyName = Annotated[str, typer.Argument(metavar="KEY", help="Dotted name: train.lr, lora.r, data.")]


@app.command()
def view(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """The whole config with every default filled in."""
    _, settings = open_project(config)
    if as_json:
        out_json(_hidden(settings.to_json()))
        return
    listed = config_keys.every_key()
    rows = [(key.name, as_typed(_hidden(config_file.get(settings, key.name)))) for key in listed]
    for line in table(rows):
        out(line)


@app.command()
def get(key: KeyName, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """The value of a setting or of a whole section."""
    value = _hidden(config_file.get(open_project(config)[1], key))
    if note := config_file.renamed(key):
        print_message(note)
    if as_json or isinstance(value, dict):
        out_json(value)
    else:
        out(as_typed(value))


@app.command("set")
def set_(
    key: KeyName,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="JSON or plain text; commas between the parts of a list.")],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Change a setting. The older file stays as .bak; a shipped file is copied here first."""
    here, settings = open_project(config)
    changed = config_file.with_value_noted(settings, key, value)
    before, after = (_hidden(config_file.get(each, key)) for each in (settings, changed.config))
    target = config_file.save(changed.config, config, here.root)
    for note in changed.notes:
        print_message(note)
    if as_json:
        out_json({"key": config_file.full_key(key), "before": before, "after": after, "path": str(target)})
    else:
        out(f"{config_file.full_key(key)}  {as_typed(before)} → {as_typed(after)}")
        print_message(f"saved {target}")


@app.command()
def keys(
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a table for documentation.")] = False,
) -> None:
    """Every setting: default, what is allowed, what it does."""
    listed = list(config_keys.every_key())
    if markdown:
        out_piece(markdown_table())
        return
    if as_json:
        out_json([key_json(key) for key in listed])
        return
    for key in listed:
        out(f"{key.name}  {as_typed(key_json(key)['default'])}", "bold")
        out(f"    {key.help}")
        out(f"    {key.allowed}{'   (basic)' if key.level == 'basic' else ''}", "dim")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A config, dataset_info.json, script or notebook.")],
    dataset: Annotated[str | None, typer.Option("--dataset", metavar="NAME", help="Which of its data sets.")] = None,
    output: Annotated[
        str | None, typer.Option("--output", metavar="PATH", help="Where to; configs/NAME.json if not given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a config that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a config of another trainer's: LLaMA-Factory, Axolotl, Unsloth, TRL. Says what each value became. Runs no code."""
    here = workspace()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._")[:64] or "imported"
    target = output or f"configs/{name}.json"
    if (here.root / target).exists() and not force:
        raise BadInput(f"{target} is there already", "--force overwrites it; --output names another")
    report = read_foreign(file, dataset)
    report.settings["project"] = name
    made = report.config()
    saved = config_file.save(made, target, here.root)
    if as_json:
        out_json(_hidden(import_json(report, str(saved))))
        return
    for line in import_lines(report):
        out(line)
    print_message(f"saved {saved}")
    print_next_commands(with_config("validate", target), with_config("data inspect", target))


_OUTCOMES = (("became", "what it became"), ("same", "what is done here anyway"), ("lost", "what was not taken over"))


def import_lines(report: Report) -> Iterator[str]:
    """What became of each value, in three tables, and what is still needed."""
    yield f"read as {report.kind}"
    for outcome, title in _OUTCOMES:
        rows = [
            (f"  {line.theirs}", short(_hidden(line.value)), "; ".join([*line.here, *([line.note] if line.note else [])]))
            for line in report.lines
            if line.outcome == outcome
        ]
        if rows:
            yield from ("", title, *table(rows))
    if report.needed:
        yield from ("", "still needed", *(f"  {each}" for each in report.needed))


def import_json(report: Report, path: str) -> dict[str, Any]:
    """The same for a program."""
    lines = [line.to_json() for line in report.lines]
    return {"read_as": report.kind, "path": path, "settings": report.settings, "values": lines, "needed": report.needed}


def _hidden(value: Any) -> Any:
    """The value of a setting or section without a token that somebody wrote into it."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _hidden(each) for name, each in value.items()}
    return [_hidden(each) for each in value] if isinstance(value, (list, tuple)) else value


def key_json(key: config_keys.Key) -> dict[str, Any]:
    """A setting as `config keys --json` lists it."""
    default = list(key.default) if isinstance(key.default, tuple) else key.default
    described = {"key": key.name, "default": default, "allowed": key.allowed, "level": key.level, "help": key.help}
    return {**described, "affects": list(key.affects)}


def markdown_table() -> str:
    """The settings as docs/settings.md shows them."""
    lines = ["| key | default | allowed | |", "| --- | --- | --- | --- |"]
    for key in config_keys.every_key():
        help_ = key.help + (" *(basic)*" if key.level == "basic" else "")
        cells = (f"`{key.name}`", f"`{as_typed(key_json(key)['default'])}`", key.allowed, help_)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def as_typed(value: Any) -> str:
    """A value as a person would type it for `config set`."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return ",".join(value)
    return json.dumps(value, ensure_ascii=False)
