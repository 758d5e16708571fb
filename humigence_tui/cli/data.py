"""`humigence data`: make a set of conversations, look at rows as the model will see them, measure a file."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import os
import shlex
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from humigence_tui.cli.shared.display import display, shown_in
from humigence_tui.cli.shared.options import DEFAULT_CONFIG, AsJson, ConfigPath, open_project, with_config
from humigence_tui.cli.shared.output import out, out_json, print_message, print_next_commands
from pipeline.base_model.locate import require_base_model
from pipeline.common.errors import BadInput, HumigenceError
from pipeline.common.files import write_atomic
from pipeline.common.text import counted
from pipeline.config import file as config_file
from pipeline.config.schema import Config, Topic
from pipeline.dataset import generate, source
from pipeline.dataset.hub import rows as hub_rows
from pipeline.dataset.leaks import in_words
from pipeline.dataset.readers.file_check import RAW_PATH_HINT, require_readable
from pipeline.dataset.sniff import reader_for, with_schema
from pipeline.dataset.sources import as_held_out
from pipeline.runs.context import StepContext
from pipeline.runs.folders import Workspace
from pipeline.runs.state import RunState

if TYPE_CHECKING:
    from pipeline.dataset.inspection import Inspection
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer
    from pipeline.tokenization.messages import Conversation

_REPORT_EVERY_S = 3.0

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.command("generate")
def generate_(
    rows: Annotated[int | None, typer.Option("--rows", metavar="N", help="How many conversations.")] = None,
    topics: Annotated[
        str | None, typer.Option("--topics", metavar="A,B", help=f"What they are about: {', '.join(get_args(Topic))}.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="The same seed makes the same file.")] = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Where to; data.raw_path if not given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """A small, varied set of conversations, composed of facts. What is not given is the config's: data.generate, seed and
    data.raw_path.
    """
    here, settings = open_project(config)
    wanted = _with_options(settings, rows, topics, seed)
    chosen = wanted.data.generate
    content = generate.content(chosen.topics, chosen.rows, wanted.seed)
    target = here.resolve(str(output or settings.data.raw_path))
    written = _write(target, content, force)
    if as_json:
        out_json(_facts(target, content, wanted, written))
        return
    contents = f"{counted(chosen.rows)} rows of {len(chosen.topics)} topic{'s' * (len(chosen.topics) > 1)}, seed {wanted.seed}"
    out(f"{target}  {contents}{'' if written else ', as it was'}")
    print_next_commands(*_next_commands(target, here, settings, config))


def _with_options(settings: Config, rows: int | None, topics: str | None, seed: int | None) -> Config:
    """The config with what was given on the command line, checked as a config is."""
    _known_topics(topics)
    given = {"data.generate.rows": rows, "data.generate.topics": topics, "seed": seed}
    for key, value in given.items():
        if value is not None:
            settings = config_file.with_value(settings, key, str(value), where="humigence data generate")
    return settings


def _known_topics(topics: str | None) -> None:
    known = get_args(Topic)
    for topic in config_file.list_of(topics) if topics is not None else ():
        if topic not in known:
            close = difflib.get_close_matches(topic, known, n=1)
            meant = f", did you mean {close[0]}?" if close else ""
            raise BadInput(f"--topics: there is no topic {topic!r}{meant}", f"there are {', '.join(known)}")


def _write(target: Path, content: bytes, force: bool) -> bool:
    """Whether the file had to be written: the same rows may be there already.

    Raises:
        BadInput: another file is there, and nobody allowed it to go.
    """
    if target.is_dir():
        raise BadInput(f"{target} is a folder", "humigence data generate --output FILE")
    if target.exists():
        if target.read_bytes() == content:
            return False
        if not force:
            raise BadInput(f"{target} is there already and holds something else", "--force overwrites it; --output names another")
    write_atomic(target, content)
    return True


def _facts(target: Path, content: bytes, wanted: Config, written: bool) -> dict[str, Any]:
    chosen = wanted.data.generate
    per_topic = Counter[str]()
    left = chosen.rows
    sizes = {topic: len(generate.conversations(topic, wanted.seed)) for topic in chosen.topics}
    while left > 0:  # as they are taken, in turn
        for topic in chosen.topics:
            if left and per_topic[topic] < sizes[topic]:
                per_topic[topic] += 1
                left -= 1
    return {
        "path": str(target),
        "rows": chosen.rows,
        "topics": dict(per_topic),
        "seed": wanted.seed,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "written": written,
    }


def _next_commands(target: Path, here: Workspace, settings: Config, config: str) -> Sequence[str]:
    shown = with_config("data show", config)
    if here.resolve(settings.data.raw_path) == target:
        return [shown]
    return [with_config(f"config set data.raw_path {shlex.quote(str(target))}", config), shown]


# -------------------------------------------------------------------------------------------------------- download


@app.command()
def download(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Fetch the data set of data.hub: the files of its split, as they are now. Rows only, never a script.

    A run fetches what is not here by itself; what is here stays as it is until this command is given.
    """
    here, settings = open_project(config)
    wanted = source.on_the_hub(settings)
    if not wanted:
        hint = with_config("config set data.source hub", config)
        raise BadInput(f"data.source is {settings.data.source}: there is nothing to download", hint)
    before = [hub_rows.find(hub) for hub in wanted]
    with display() as view:
        ctx = StepContext(settings, here, emit=shown_in(view, RunState()))
        fetched = [hub_rows.fetch(ctx, hub) for hub in wanted]
    if as_json:
        told = [{**found.to_json(), "path": str(found.path)} for found in fetched]
        out_json(told if settings.data.source == "several" else told[0])
        return
    for found, was in zip(fetched, before, strict=True):
        out(f"{found.name}  {hub_rows.size_in_words(found)}")
        if was and was.commit != found.commit:
            print_message(f"before it was at {was.commit[:12]}: rows prepared from that are prepared anew")
        if found.beside:
            print_message(f"not used: {found.beside}")
    print_next_commands(with_config("data inspect", config), with_config("data show", config))


# ----------------------------------------------------------------------------------------------------- show, stats


@app.command()
def show(
    row: Annotated[int | None, typer.Option("--row", metavar="N", min=1, help="This row only, counted from 1.")] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="Rows that are not used, with the reason.")] = False,
    search: Annotated[str, typer.Option("--search", metavar="TEXT", help="Rows that hold this, whatever the case.")] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = 3,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Rows as the model will see them: tokens that are trained are tinted, or in ⟦brackets⟧ where there are no colours."""
    from humigence_tui.cli.shared import row_table as rows

    here, settings = open_project(config)
    with source.as_file(settings, here) as path:
        require_readable(path, missing_hint=RAW_PATH_HINT)
        tokenizer = _tokenizer_or_none(settings, here)
        settings = with_schema(settings, path)
        found = rows.rows_of(path, settings, tokenizer, rows.Wanted(row, rejected, search))
        shown = list(itertools.islice(found, limit + 1))
        if row is not None and not shown:
            raise BadInput(
                f"--row: {path} has no row {row:,}", f"it has {sum(1 for _ in reader_for(settings, path).positions(path)):,}"
            )
    more, shown = len(shown) > limit, shown[:limit]
    if as_json:
        out_json([rows.row_json(each, tokenizer) for each in shown])
        return
    for each in shown:
        rows.print_row(each, tokenizer, settings.data.max_seq_len)
    if not shown:
        print_message(
            "no row is rejected" if rejected and not search else f"no row holds {search!r}" if search else "there are no rows"
        )
    elif more:
        print_message(f"there are more: --limit {4 * limit} shows up to {4 * limit}")


@app.command("inspect")
def inspect_(
    path: Annotated[
        str | None, typer.Argument(metavar="PATH", help="A file, a folder or a pattern; data.raw_path if not given.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Write what can be used as chat_messages, one row a line.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """What a file is: its kind, the schema and the evidence for it, what is used, what is not and why. Needs no model."""
    from humigence_tui.cli.shared import inspection_text
    from pipeline.dataset import inspection
    from pipeline.dataset.leaks_without_model import leaks

    here, settings = open_project(config)
    held_out = {} if path is not None else _inspected_apart(here, settings)
    left_out = {} if path is not None else leaks(settings, here)
    settings = source.divided_only(settings)
    with nullcontext(here.resolve(path)) if path is not None else source.as_file(settings, here) as file:
        require_readable(file, "PATH" if path is not None else "data.raw_path", missing_hint=RAW_PATH_HINT)
        found, conversations = inspection.begin(file, settings if path is None else _found_out(settings))
        if write is not None:
            _write_conversations(here.resolve(str(write)), conversations, force)
        for _ in conversations:
            pass
    if as_json:
        own = {"held_out": {split: each.to_json() for split, each in held_out.items()}, "leaks": left_out} if held_out else {}
        out_json({**found.to_json(), **own})
        return
    for line in inspection_text.lines(found):
        out(line)
    for split, each in held_out.items():
        out()
        out(f"data.{split}_path  {each.path}")
        for line in inspection_text.lines(each):
            out(line)
    for line in in_words(left_out):
        out(line)
    if write is not None:
        out()
        out(f"{write}  {counted(found.used)} rows")


def _inspected_apart(here: Workspace, settings: Config) -> dict[str, Inspection]:
    """The split -> its own file, for those that have one, each read as it is written."""
    from pipeline.dataset import inspection

    found: dict[str, Inspection] = {}
    for split, path in settings.data.held_out_paths.items():
        file = here.resolve(path)
        require_readable(file, f"data.{split}_path")
        read_as = as_held_out(settings, file)
        found[split] = inspection.inspect(file, read_as)
        found[split].asked = settings.data.row_schema == read_as.data.row_schema
    return found


def _found_out(settings: Config) -> Config:
    """The config with nothing said of how rows are written: it says so of its own file."""
    data = settings.data.model_copy(update={"row_schema": "auto", "columns": ()})
    return settings.model_copy(update={"data": data})


def _write_conversations(target: Path, conversations: Iterable[Conversation], force: bool) -> None:
    """As JSON lines, whole or not at all. Raises `BadInput` where a file is there already, or a row is no conversation."""
    if target.exists() and not force:
        raise BadInput(f"{target} is there already", "--force overwrites it")
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            for conversation in conversations:
                if conversation.text:
                    raise BadInput(
                        "--write: the rows are texts, not conversations", "they are read as they are: data.schema text"
                    )
                file.write(json.dumps(conversation.as_row(), ensure_ascii=False) + "\n")
            file.flush()
            os.replace(file.name, target)
        except BaseException:
            os.unlink(file.name)
            raise


@app.command()
def stats(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Lengths in tokens, what is trained, what is rejected and why, how full packed rows are. Nothing is written."""
    here, settings = open_project(config)
    base = require_base_model(settings, here)
    from humigence_tui.cli.shared import row_table as rows
    from pipeline.dataset.prepare import measure
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    with source.as_file(settings, here) as path:
        require_readable(path, missing_hint=RAW_PATH_HINT)
        measured = measure(path, settings, ChatTokenizer.load(base), _progress(reader_for(settings, path).count(path)))
    if as_json:
        out_json(rows.stats_json(measured, settings))
        return
    for line in rows.stats_lines(measured, settings):
        out(line)


def _tokenizer_or_none(settings: Config, here: Workspace) -> ChatTokenizer | None:
    """The base model's tokenizer; without it rows are shown as they are written, and the reason is printed."""
    try:
        base = require_base_model(settings, here)
        from pipeline.tokenization.chat_tokenizer import ChatTokenizer

        return ChatTokenizer.load(base)
    except HumigenceError as error:
        print_message(f"▲ without the chat template: {error.message}" + (f" ({error.hint})" if error.hint else ""), "amber")
        return None


def _progress(total: int) -> Callable[[int, str], None]:
    """Reports now and then how far it is, for a file that takes a while."""
    reported_at = time.monotonic()

    def report(done: int, what: str) -> None:
        nonlocal reported_at
        if time.monotonic() - reported_at > _REPORT_EVERY_S:
            reported_at = time.monotonic()
            print_message(f"{what}  {counted(done)} of {counted(total)}", "dim")

    return report
