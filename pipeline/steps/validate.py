"""Step 1, validate: everything that can be known to go wrong, reported at once, before anything heavy is loaded or downloaded."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from pipeline.base_model import catalogue
from pipeline.base_model.architecture import read_architecture, source_of
from pipeline.base_model.hub_cache import has_token, hub_cache, is_offline
from pipeline.base_model.locate import locate, require_base_model
from pipeline.base_model.precision import precision_fault, require_precision
from pipeline.base_model.shape import adapter_parameters, checked_shape, shape_of_config
from pipeline.base_model.targets import require_targets, target_names
from pipeline.common.errors import BadInput, EnvironmentFault, HumigenceError, MissingArtifact
from pipeline.common.text import size
from pipeline.config.schema import Config
from pipeline.dataset import first_rows, source
from pipeline.dataset.first_rows import ROWS_LOOKED_AT
from pipeline.dataset.hub import rows as hub_rows
from pipeline.dataset.processed import prepared_bytes, raw_file
from pipeline.dataset.readers.file_check import require_readable
from pipeline.dataset.row import conversation_of
from pipeline.dataset.row_view import texts_of
from pipeline.dataset.sniff import reader_for, with_schema
from pipeline.dataset.sources import as_held_out
from pipeline.evaluation import gates
from pipeline.evaluation.answer_checks import find_prompts, read_prompts
from pipeline.evaluation.evidence import evidence_of
from pipeline.evaluation.held_out_gate import HELD_OUT
from pipeline.evaluation.suites import reported as suites
from pipeline.hub.repository import Repository, require_name
from pipeline.planning.export_formats import EXPORT_FORMATS, format_bytes
from pipeline.planning.micro_batch import memory_fault
from pipeline.planning.planner import known_shape
from pipeline.runs.context import StepContext, StepResult
from pipeline.runs.events import Note
from pipeline.runs.progress import Phases
from pipeline.runs.store import read_report, runs_of
from pipeline.system import disk
from pipeline.system.gpu import GIB, choose_device, read_gpus, torch_cuda_build
from pipeline.tokenization import templates, tokenizer_verdicts
from pipeline.tokenization.read_back import not_read_back

_CHECKPOINTS_KEPT = 4


def run(ctx: StepContext) -> StepResult:
    """Check everything.

    Raises:
        BadInput, EnvironmentFault, MissingArtifact: the one problem there is, or all of them together.
    """
    _require(_CHECKS, ctx)
    _judge_again(ctx)
    if coming := _to_be_downloaded(ctx):
        return StepResult("done", f"config, paths, disk, data, prompts and precision are in order; {coming}")
    return StepResult("done", "config, paths, disk, model, data, prompts and precision are in order")


def _to_be_downloaded(ctx: StepContext) -> str:
    """Of a base model that is not here: that it comes by the network; empty where it is here."""
    model = ctx.config.model
    if model.local_path or locate(ctx.config, ctx.workspace):
        return ""
    entry = catalogue.curated_model(model.repo)
    about = f", about {size(entry.download_bytes)}" if entry else ""
    return f"{model.repo} is not here and is downloaded in step model{about}"


def require_sound(ctx: StepContext) -> None:
    """What makes no sense however the machine is: refused by a plan too, whose figures would mean nothing. Raises as `run`."""
    _require(_OF_THE_CONFIG, ctx)


def is_unchanged(ctx: StepContext) -> bool:
    """Never: the machine may be another than a minute ago, and looking is quick."""
    return False


def _require(checks: Sequence[Callable[[StepContext], Iterator[HumigenceError]]], ctx: StepContext) -> None:
    problems = {problem.message: problem for check in checks for problem in _problems(check, ctx)}  # several may run into one
    if problems:
        raise _all_of(list(problems.values()))


def _problems(check: Callable[[StepContext], Iterator[HumigenceError]], ctx: StepContext) -> list[HumigenceError]:
    """What a check yields; an error it runs into is one more problem, not the end of the list."""
    found: list[HumigenceError] = []
    try:
        for problem in check(ctx):
            found.append(problem)  # one by one: those before an exception count
    except HumigenceError as error:
        found.append(error)
    return found


def _all_of(problems: list[HumigenceError]) -> HumigenceError:
    """One error for all: bad input if there is any, since that is mended first."""
    if len(problems) == 1:
        return problems[0]
    classes: tuple[type[HumigenceError], ...] = (BadInput, EnvironmentFault, MissingArtifact)
    kind = next(each for each in classes if any(isinstance(problem, each) for problem in problems))
    entries = [f"  {problem.message}" + (f"\n    {problem.hint}" if problem.hint else "") for problem in problems]
    return kind(f"{len(problems)} problems\n" + "\n".join(entries), "mend these, then humigence validate looks again")


# ------------------------------------------------------------------------------------------------- settings


def _check_settings(ctx: StepContext) -> Iterator[HumigenceError]:
    """Settings against each other and against the model's shape."""
    config = ctx.config
    shape = known_shape(config, ctx.workspace)
    if shape and 0 < shape.max_positions < config.data.max_seq_len:
        length = config.data.max_seq_len
        message = f"data.max_seq_len: {length:,} is longer than the {shape.max_positions:,} positions of the model"
        yield BadInput(message, f"humigence config set data.max_seq_len {shape.max_positions}")
    for split, path in config.data.held_out_paths.items():
        if getattr(config.data.split, split):
            ctx.emit(Note(f"data.split.{split} is not used: {split} is data.{split}_path ({path})", "warning"))
    if not config.data.holds_out("val"):
        why = "checkpoints cannot be compared, training does not stop early, and the held-out gate is not judged"
        ctx.emit(Note(f"data.split.val is 0 and data.val_path names no rows: {why}", "warning"))


def _check_architecture(ctx: StepContext) -> Iterator[HumigenceError]:
    """What the model is, as far as its config settles it, can be trained, and has the layers that get an adapter.

    Asked of the model's class the first time, which takes seconds; afterwards it is known.
    """
    source = source_of(ctx.config, ctx.workspace)
    if source is None:
        return
    facts = read_architecture(source)
    if facts is None:
        Phases(ctx.emit, "validate").say("asking the model's class what it is made of")
        from pipeline.modeling.inspect_architecture import architecture_of

        base = locate(ctx.config, ctx.workspace)
        facts = architecture_of(
            source, base.name if base else ctx.config.model.repo, lambda: checked_shape(base) if base else shape_of_config(source)
        )
    require_targets(facts, ctx.config.train.lora)
    if facts.experts:
        ctx.emit(Note("the experts get no adapter and stay in 16 bits or more: attention and dense layers are trained"))
    yield from ()


# ------------------------------------------------------------------------------------------------- places


def _check_places(ctx: StepContext) -> Iterator[HumigenceError]:
    """The folders that will be written to."""
    for key, folder in _places(ctx).items():
        if reason := _not_writable(folder):
            hint = "give this user access, or choose another folder"
            yield EnvironmentFault(f"{key}: {folder} cannot be written to ({reason})", hint)


def _places(ctx: StepContext) -> dict[str, Path]:
    places = {
        "runs": ctx.workspace.runs,
        "data.processed_dir": ctx.workspace.resolve(ctx.config.data.processed_dir),
        "export.artifacts_dir": ctx.workspace.resolve(ctx.config.export.artifacts_dir),
    }
    return places if ctx.config.model.local_path else {**places, "HF_HOME": hub_cache()}


def _not_writable(folder: Path) -> str:
    """Why nothing can be written below `folder`, or "". Tries it in what exists of the path and leaves nothing behind."""
    folder = disk.existing(folder)
    if not folder.is_dir():
        return f"{folder} is a file"
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
            probe.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _check_disk(ctx: StepContext) -> Iterator[HumigenceError]:
    """Room for the download, the prepared rows, checkpoints and the result; what shares a disk is added up."""
    artifacts = ctx.workspace.resolve(ctx.config.export.artifacts_dir)
    needs = [(ctx.workspace.root, _workspace_bytes(ctx)), (hub_cache(), _download_bytes(ctx)), (artifacts, _packaged_bytes(ctx))]
    disks: dict[int, tuple[Path, int]] = {}
    for path, needed in needs:
        device = _device_of(path)
        first, before = disks.get(device, (path, 0))
        disks[device] = (first, before + needed)
    for path, needed in disks.values():
        free = disk.free_disk_bytes(path)
        if needed > free:
            message = f"the disk of {path} has {free / GIB:.1f} GiB free, about {needed / GIB:.1f} GiB are needed"
            yield EnvironmentFault(message, "make room, or set HF_HOME to another disk for the base model")


def _workspace_bytes(ctx: StepContext) -> int:
    raw = raw_file(ctx.config, ctx.workspace)
    shape = known_shape(ctx.config, ctx.workspace)
    lora = ctx.config.train.lora
    trained = adapter_parameters(shape, lora.r, target_names(lora, shape), dora=lora.dora) if shape else 0
    checkpoint = 3 * 4 * trained  # the adapter and AdamW's two moments, 32 bits each
    return prepared_bytes(raw) + (_CHECKPOINTS_KEPT + 1) * checkpoint


def _packaged_bytes(ctx: StepContext) -> int:
    """What the formats beside the adapter take beyond those they replace."""
    shape = known_shape(ctx.config, ctx.workspace)
    if shape is None:
        return 0
    package = ctx.workspace.resolve(ctx.config.export.artifacts_dir) / ctx.config.project
    sizes = format_bytes(ctx.config, shape, locate(ctx.config, ctx.workspace))
    needed = 0
    for name in ctx.config.export.formats:
        outline = EXPORT_FORMATS[name]
        if outline.folder:
            before = sum(file.stat().st_size for file in (package / outline.folder).glob(outline.weights))
            needed += max(0, sizes[name] - before)
    return needed


def _download_bytes(ctx: StepContext) -> int:
    entry = catalogue.curated_model(ctx.config.model.repo)
    if ctx.config.model.local_path or entry is None or locate(ctx.config, ctx.workspace):
        return 0
    return entry.download_bytes


def _device_of(path: Path) -> int:
    return disk.existing(path).stat().st_dev


# ------------------------------------------------------------------------------------------------- model, data, prompts


def _check_model(ctx: StepContext) -> Iterator[HumigenceError]:
    """The base model is here, or there is reason to think that it can be fetched."""
    model = ctx.config.model
    if model.local_path:
        checked_shape(require_base_model(ctx.config, ctx.workspace))
        return
    require_name(Repository(model.repo))
    if locate(ctx.config, ctx.workspace):
        return
    if is_offline():
        hint = "unset HF_HUB_OFFLINE and run humigence model download, or set model.local_path"
        yield MissingArtifact(f"the base model {model.repo} is not on this machine and HF_HUB_OFFLINE is set", hint)
        return
    yield from _check_access(ctx)


def _check_access(ctx: StepContext) -> Iterator[HumigenceError]:
    """The hub would let it be downloaded. One that can't be asked now may be within reach when the download comes; what needs a
    token needs it then too."""
    from pipeline.hub.access import fetch_config, require_access
    from pipeline.hub.answers import is_gated

    model = ctx.config.model
    repository = Repository(model.repo, model.revision)
    try:
        require_access(repository)
        fetch_config(model.repo, model.revision)
    except EnvironmentFault as fault:
        entry = catalogue.curated_model(model.repo)
        if entry and entry.gated and not has_token():
            yield is_gated(repository)
        else:
            _note_unknown(ctx, repository, fault)


def _note_unknown(ctx: StepContext, repository: Repository, fault: EnvironmentFault) -> None:
    text = f"whether {repository.name} can be downloaded is not known: {fault.message}; {fault.hint}"
    ctx.emit(Note(text, "warning"))


def _check_exports(ctx: StepContext) -> Iterator[HumigenceError]:
    """What is to be packaged can be made of this base model."""
    base = locate(ctx.config, ctx.workspace)
    refusals: dict[str, list[str]] = {}
    for name in ctx.config.export.formats if base else ():
        if base and (why := EXPORT_FORMATS[name].refusal(ctx.config, base)):
            refusals.setdefault(why, []).append(name)
    for why, names in refusals.items():
        kept = ",".join(each for each in ctx.config.export.formats if each not in names)
        yield BadInput(f"export.formats: {', '.join(names)}: {why}", f"humigence config set export.formats {kept}")


def _check_template(ctx: StepContext) -> Iterator[HumigenceError]:
    """There is a chat template, and the vocabulary has what it writes. Whether it can be masked is known once it is loaded."""
    base = locate(ctx.config, ctx.workspace)
    if base is None:
        return
    found = templates.of(base)
    if base.template == templates.OWN and not found.own:
        yield BadInput(f"data.template: {base.name} has no chat template of its own", templates.how_to_choose(found))
    if missing := found.lacking.get(base.template):
        message = f"data.template: {base.template} needs the special token {missing}, which {base.name} does not have"
        yield BadInput(message, templates.how_to_choose(found))


def _check_tokenizer(ctx: StepContext) -> Iterator[HumigenceError]:
    """The tokenizer can be loaded, has no id beyond the embedding, and gives the first rows' text back.

    Asked of the loaded tokenizer the first time, which takes seconds; what was found to be in order is remembered.
    """
    base = locate(ctx.config, ctx.workspace)
    if base is None or any(_problems(_check_template, ctx)):
        return
    texts = _first_texts(ctx)
    if tokenizer_verdicts.is_in_order(base, texts):
        return
    Phases(ctx.emit, "validate").say("reading the tokenizer")
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    tokenizer = ChatTokenizer.load(base)
    found = tokenizer.read_back_texts(texts)
    if found.is_too_much:
        yield not_read_back("data.raw_path", found, tokenizer.kind)
    elif found.changed:
        ctx.emit(
            Note(f"decoding what was encoded does not give all of the text back: {found.in_words(tokenizer.kind)}", "warning")
        )
    else:
        tokenizer_verdicts.store(base, texts)


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def _first_texts(ctx: StepContext) -> list[str]:
    """What is said in the first rows, as far as they can be read: what is wrong with the others is reported elsewhere."""
    texts = list[str]()
    with suppress(HumigenceError, OSError), source.as_file(ctx.config, ctx.workspace) as path:
        require_readable(path)  # opening a pipe would wait for whoever writes into it
        config = with_schema(ctx.config, path)
        for raw in islice(reader_for(config, path).rows(path), ROWS_LOOKED_AT):
            with suppress(BadInput):
                texts += texts_of(conversation_of(raw, config).conversation)
    return [text for text in texts if not _LONE_SURROGATE.search(text)]  # no tokenizer takes them


def _check_data(ctx: StepContext) -> Iterator[HumigenceError]:
    """The first rows of the raw file. Bad ones among good ones are left out by preprocess, so they are only reported.

    Of a data set of the hub that is not here yet: whether the hub has it and gives it."""
    if ctx.config.data.sources and ctx.config.data.source != "several":
        ctx.emit(Note(f"data.sources is not used: data.source is {ctx.config.data.source}", "warning"))
    if not source.is_here(ctx.config):
        for hub in source.on_the_hub(ctx.config):
            try:
                if hub_rows.find(hub) is None:
                    hub_rows.require_fetchable(hub)
            except EnvironmentFault as fault:
                _note_unknown(ctx, hub_rows.repository_of(hub), fault)
        return
    yield from _check_data_here(ctx)


def _check_data_here(ctx: StepContext) -> Iterator[HumigenceError]:
    """The same without the network: nothing of rows that are on the hub and not here yet."""
    held_out = {split: ctx.workspace.resolve(path) for split, path in ctx.config.data.held_out_paths.items()}
    for split, path in held_out.items():  # first: they are here, wherever the others are
        require_readable(path, f"data.{split}_path")
    if not source.is_here(ctx.config):
        return
    for split, path in held_out.items():
        yield from _check_rows(path, f"data.{split}_path", ctx, as_held_out(ctx.config, path))
    if note := source.another_file(ctx.config, ctx.workspace):
        ctx.emit(Note(note, "warning"))
    divided = source.divided_only(ctx.config)
    with source.as_file(divided, ctx.workspace) as path:
        yield from _check_rows(path, "data.raw_path", ctx, divided)


def _check_rows(path: Path, key: str, ctx: StepContext, config: Config) -> Iterator[HumigenceError]:
    problem, warning = first_rows.look(path, key, config)
    if warning:
        ctx.emit(Note(warning, "warning"))
    if problem:
        yield problem


def _check_prompts(ctx: StepContext) -> Iterator[HumigenceError]:
    """The curated prompts can be read, and the suites that are named can be measured."""
    read_prompts(find_prompts(ctx.config.eval.curated_prompts_path, ctx.workspace.root))
    suites.check(ctx, suites.named(ctx.config))
    yield from ()


# ------------------------------------------------------------------------------------------------- precision


def _check_precision(ctx: StepContext) -> Iterator[HumigenceError]:
    """The device is there, can do what the precision mode asks, and has memory for one row at a time, as far as the model's sizes
    are known before it is downloaded."""
    mode = ctx.config.train.precision_mode
    if missing := precision_fault(mode, None):
        yield missing
    device = choose_device(ctx.config.compute.gpu)
    if device.kind == "cpu" and ctx.config.compute.gpu == "auto" and read_gpus() and torch_cuda_build() is None:
        text = "there is a GPU, and the installed torch is a CPU-only build: humigence doctor tells how to mend it"
        ctx.emit(Note(text, "warning"))
    if missing is None:
        require_precision(mode, device)
    shape = known_shape(ctx.config, ctx.workspace)
    if shape and (fault := memory_fault(ctx.config, shape, device.within(ctx.config.compute.memory_limit_gib))):
        yield fault


_OF_THE_CONFIG = (_check_settings, _check_architecture, _check_template, _check_data_here, _check_prompts)
_CHECKS = (
    _check_settings,
    _check_places,
    _check_disk,
    _check_model,
    _check_architecture,
    _check_template,
    _check_tokenizer,
    _check_data,
    _check_prompts,
    _check_precision,
    _check_exports,
)


# ------------------------------------------------------------------------------------------------- yesterday's result


def _judge_again(ctx: StepContext) -> None:
    """Tell where the newest judged run stands against the thresholds as they are now, if that differs from its report."""
    for run in runs_of(ctx.workspace, ctx.config.project):
        report = read_report(run.acceptance_report)
        evidence = evidence_of(run) if report else None
        if report is None or evidence is None:
            continue
        before = {gate["gate"]: gate["verdict"] for gate in report["gates"]}
        for gate in gates.judge(evidence, ctx.config.acceptance):
            was = before.get(gate.gate)
            older = gate.gate == HELD_OUT and evidence.judged is None and evidence.val is not None
            if was is not None and was != gate.verdict and not older:  # what an older version measured stays as it was judged
                text = f"run {run.run_id}: {gate.gate} was {was}; by today's thresholds it is {gate.verdict}"
                ctx.emit(Note(text, "warning"))
        return
