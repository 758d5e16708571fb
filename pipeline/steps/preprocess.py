"""The fourth step: rows to cleaned, divided, tokenized and labelled conversations.

The result is addressed by what went into it (raw file, data settings, seed, tokenizer), so it is made once and shared by every
run that asks for the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base_model.locate import require_base_model
from pipeline.base_model.stop_tokens import named_stop_ids
from pipeline.common import files
from pipeline.common.errors import BadInput, EnvironmentFault, Stopped
from pipeline.dataset import leaks, processed, source
from pipeline.dataset.hub import rows as hub_rows
from pipeline.dataset.processed import ProcessedData
from pipeline.dataset.readers.file_check import RAW_PATH_HINT, require_readable
from pipeline.dataset.reason_counts import counted_rows
from pipeline.dataset.schemas.registry import schema
from pipeline.dataset.sniff import reader_for, with_schema
from pipeline.dataset.sources import in_words
from pipeline.dataset.split import Grouped
from pipeline.runs.context import StepContext, StepResult
from pipeline.runs.events import Note
from pipeline.runs.progress import Phases, Progress
from pipeline.system import disk
from pipeline.system import faults as machine_faults
from pipeline.tokenization.read_back import ReadBack

if TYPE_CHECKING:
    from pipeline.base_model.locate import BaseModel

_REASONS_SHOWN = 12  # the report has all of them


def run(ctx: StepContext) -> StepResult:
    """Prepare the data of the config, unless it is there already.

    Raises:
        BadInput: the raw file is missing or holds no row that can be used.
        MissingArtifact: the base model is not on this machine.
        EnvironmentFault: a disk error.
        Stopped: the person asked for it; nothing is left behind.
    """
    base = require_base_model(ctx.config, ctx.workspace)
    raw = _raw_in_place(ctx)
    digest = processed.raw_digest(raw)
    folder = processed.folder_of(ctx.config, ctx.workspace, base)
    found = _still_right(ctx, processed.read_processed(folder))
    data = found or _make(ctx, base, raw, digest)
    if found and processed.raw_digest_now(raw) != digest:
        change = "has changed since the run began: it goes on with the rows as they were prepared then"
        ctx.emit(Note(f"data.raw_path: {_called(ctx, raw)} {change}", "warning"))
    if ctx.run:
        files.write_json(ctx.run.preprocess_report, data.report)
    return StepResult("unchanged" if found else "done", _summary(data.report))


def is_unchanged(ctx: StepContext) -> bool:
    """Whether the data is prepared and, inside a run, its report is in the run folder."""
    found = processed.find_processed(ctx.config, ctx.workspace)
    if found is None or ctx.run is None:
        return found is not None
    copied = ctx.run.preprocess_report
    return copied.is_file() and files.read_json(copied) == found.report


def _still_right(ctx: StepContext, found: ProcessedData | None) -> ProcessedData | None:
    """What was prepared, unless by a version that grouped rows otherwise, and a new run would be judged by what it trains."""
    if found is None or processed.is_resumed():
        return found
    from pipeline.dataset.ungrouped import came_apart

    if not (rows := came_apart(found)):
        return found
    ctx.emit(
        Note(
            f"{counted_rows(rows)} of those that an earlier version held out belong to others that are trained: the rows are"
            " prepared anew, and divided in groups"
        )
    )
    return None


def _raw_in_place(ctx: StepContext) -> Path:
    """The raw file, what `data.source` makes written to where the config says it is, or what it names fetched from the hub."""
    for hub in source.on_the_hub(ctx.config):
        hub_rows.find(hub) or hub_rows.fetch(ctx, hub)
    if ctx.config.data.source not in ("hub", "several"):
        source.put_in_place(ctx.config, ctx.workspace)
    path = processed.raw_file(ctx.config, ctx.workspace)
    require_readable(path, missing_hint=RAW_PATH_HINT)
    return path


def _called(ctx: StepContext, raw: Path) -> str:
    """The raw rows for a person: a path of theirs, not that of a list of several."""
    names = [source.name_of(ctx.config), *ctx.config.data.held_out_paths.values()]
    return str(raw) if len(names) == 1 and ctx.config.data.source != "several" else f"one of {', '.join(names)}"


def _make(ctx: StepContext, base: BaseModel, raw: Path, digest: str) -> ProcessedData:
    from pipeline.dataset.prepare import prepare

    Phases(ctx.emit, "preprocess").say("importing libraries")
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    reader = reader_for(ctx.config, raw)
    rows = reader.count(raw)  # first: a file that can't be read is reported before anybody has waited for the tokenizer
    tokenizer = ChatTokenizer.load(base)
    stopped = Stopped("stopped while preparing the data", "start it again; the rows are prepared from the first")
    progress = Progress(ctx, "preprocess", rows, "rows", stopped=stopped)
    folder, grouped = processed.folders_of(ctx.config, ctx.workspace, base)
    disk.require_free(folder, processed.prepared_bytes(raw), "preparing the data")
    try:
        with files.new_folder(folder, lambda: folder.name) as temporary:
            figures = prepare(raw, temporary, ctx.config, tokenizer, progress.reach)
            folder = grouped if figures["grouped"]["moved"] else folder
            report = _report(ctx, base, raw, folder, figures)
            if report["raw_sha256"] != digest:
                # Under the digest of other rows these would be taken for them ever after.
                hint = "start again; to resume a run that has begun training, put the file back as it was"
                raise BadInput(
                    f"data.raw_path: {_called(ctx, raw)} is not the file that was begun with: it has changed meanwhile", hint
                )
            files.write_json(temporary / "report.json", report)
    except OSError as error:
        other = EnvironmentFault(
            f"preparing the data failed: {error.filename or folder}: {error.strerror or error}", "humigence doctor"
        )
        raise machine_faults.as_fault(error, folder) or other from error
    _emit_notes(ctx, report, reader.notice(raw))
    return ProcessedData(folder, folder.name, report)


def _report(ctx: StepContext, base: BaseModel, raw: Path, folder: Path, figures: dict[str, Any]) -> dict[str, Any]:
    data, reader = ctx.config.data, reader_for(ctx.config, raw)
    return {
        "fingerprint": folder.name,
        "raw_path": source.name_of(ctx.config),
        **_of_hub(ctx),
        "raw_sha256": processed.raw_digest_now(raw),
        "json_array": reader.unit == "row",
        "container": reader.name,
        "schema": _schemas(figures) or with_schema(ctx.config, raw).data.row_schema,
        "schema_asked": data.row_schema,
        "model": base.name,
        "template": base.template,
        processed.STOP_TOKENS: sorted(named_stop_ids(base)),
        "seed": ctx.config.seed,
        "max_seq_len": data.max_seq_len,
        "over_long": data.over_long,
        **figures,
    }


def _schemas(figures: dict[str, Any]) -> str:
    """Of several sources, each schema once."""
    return ", ".join(dict.fromkeys(each["schema"] for each in figures.get("sources", ())))


def _of_hub(ctx: StepContext) -> dict[str, Any]:
    """The data sets of the hub with their commits; under `hub` the one where there is only one source."""
    found = [each for hub in source.on_the_hub(ctx.config) if (each := hub_rows.find(hub))]
    if ctx.config.data.source == "hub" and found:
        return {"hub": found[0].to_json()}
    return {"hub_sources": [each.to_json() for each in found]} if found else {}


def _emit_notes(ctx: StepContext, report: dict[str, Any], notice: str) -> None:
    """What a person should know before training on it."""
    for found in filter(None, map(hub_rows.find, source.on_the_hub(ctx.config))):
        beside = f"; not used: {found.beside}" if found.beside else ""
        ctx.emit(Note(f"rows of {found.repo} at commit {found.commit}: {found.chosen.split}{beside}"))
    if notice:
        ctx.emit(Note(f"{report['raw_path']} {notice}: all of its {report['rows']} rows are read"))
    rejected = report["rejected_in_words"]
    if rejected:
        more = [f"{len(rejected) - _REASONS_SHOWN} more reasons"] if len(rejected) > _REASONS_SHOWN else []
        reasons = "".join(f"\n  {reason}" for reason in rejected[:_REASONS_SHOWN] + more)
        ctx.emit(Note(f"{report['rejected_rows']} of {report['rows']} rows left out{reasons}", "warning"))
    read_back = ReadBack(**report["read_back"])
    if read_back.changed:
        ctx.emit(
            Note(
                f"decoding what was encoded does not give all of the text back: {read_back.in_words(report['tokenizer_class'])}",
                "warning",
            )
        )
    for entry in report.get("sources", ()):
        ctx.emit(Note(in_words(entry)))
        if ctx.config.data.shares.val and not entry["split"] and not entry["val"]:
            ctx.emit(Note(f"{entry['name']}: too few rows for a val split of its own", "warning"))
    if report["schema_asked"] == "auto" and "sources" not in report:
        ctx.emit(Note(f"{report['raw_path']}: read as {report['schema']} ({schema(report['schema']).evidence})"))
    if report["weighted"]:
        ctx.emit(Note(f"{counted_rows(report['weighted'])} weigh their answers in the loss otherwise than by 1"))
    if unused := report["left_out"]:
        names = "".join(f"\n  {name}: {counted_rows(found['rows'])}" for name, found in unused.items())
        ctx.emit(Note(f"not used of the rows{names}"))
    if left_out := report["not_shown"]:
        names = "".join(f"\n  {name}: {found['rows']} rows" for name, found in left_out.items())
        ctx.emit(
            Note(f"the chat template does not show all that the rows say; what it leaves out is not trained{names}", "warning")
        )
    if report["turn_by_turn"]:
        ctx.emit(
            Note(f"{report['turn_by_turn']} conversations are trained turn by turn: the chat template rewrites earlier turns")
        )
    if told_of_leaks := leaks.in_words(report["leaks"]):
        ctx.emit(Note("\n  ".join(told_of_leaks), "warning"))
    grouped = Grouped(**report["grouped"])
    doubts = grouped.doubts()
    if told := [line for line in grouped.in_words() if line not in doubts]:
        ctx.emit(Note("\n  ".join(["rows that belong together are held out together:", *told])))
    for doubt in doubts:
        ctx.emit(Note(doubt, "warning"))
    for split in ("val", "test"):
        if split in ctx.config.data.held_out_paths and not report["splits"][split]["conversations"]:
            ctx.emit(Note(f"no row of data.{split}_path is left: {split} is empty", "warning"))
        elif ctx.config.data.holds_out(split) and not report["splits"][split]["conversations"]:
            few = "too few rows" if not grouped.rows else "too few rows that do not belong together"
            ctx.emit(Note(f"{few} ({report['kept']}) for a {split} split: it is empty", "warning"))


def _summary(report: dict[str, Any]) -> str:
    splits = report["splits"]
    parts = [", ".join(f"{splits[split]['conversations']} {split}" for split in processed.SPLITS) + " conversations"]
    if report["rejected_rows"]:
        parts.append(f"{report['rejected_rows']} rows left out")
    if left_out := leaks.total(report.get("leaks", {})):
        parts.append(f"{left_out} left out that belong to held-out rows of your own")
    if report["duplicates"]:
        parts.append(f"{report['duplicates']} duplicates")
    return "; ".join(parts)
