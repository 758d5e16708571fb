"""What can be chosen on this machine, as options of a form: each with its details, or with the reason why it can't be taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.base_model.catalogue import CuratedModel
from pipeline.base_model.precision import PRECISIONS, why_not
from pipeline.base_model.shape import ModelShape
from pipeline.common.text import counted, parameters, safe, size
from pipeline.config.choice import Choice
from pipeline.config.schema import Config, ExportFormat, PrecisionMode
from pipeline.dataset.readers.registry import NAMES
from pipeline.planning.availability import availability, by_size
from pipeline.planning.export_formats import FORMAT_CHOICES
from pipeline.planning.micro_batch import memory_of
from pipeline.system.gpu import GIB, Device, GpuReading, Survey, allowed, survey, torch_cuda_build
from pipeline.system.host import HostReading, read_host
from pipeline.tokenization.templates import TEMPLATES, Templates, is_file
from screens.widgets.choices import Option

OTHER_MODEL = "other"
_COUNTS = ("none", "one", "two")


@dataclass(frozen=True)
class MachineFacts:
    """What the options rest on, read once in a thread."""

    found: Survey
    usable: tuple[GpuReading, ...]
    host: HostReading
    cuda_build: bool


def read_machine() -> MachineFacts:
    """GPUs, CPU and memory as they are now."""
    found = survey()
    return MachineFacts(found, allowed(found.gpus), read_host(), torch_cuda_build() is not None)


# ------------------------------------------------------------------------------------------------------------ GPU


def gpu_options(machine: MachineFacts, current: str) -> list[Option]:
    """auto, each GPU, the CPU, several GPUs."""
    about = "The GPU with most memory free when the run starts, else the CPU."
    options = [Option("auto", "auto", _auto_detail(machine), about=about)]
    options += [_gpu_option(gpu, machine, current) for gpu in machine.found.gpus]
    host = machine.host
    free = f"{size(host.memory_available_bytes)} free"
    slow = "works, hundreds of times slower than a GPU" if machine.usable else f"works, slowly · {host.cores} cores · {free}"
    options.append(Option("cpu", "CPU", slow, about=f"{safe(host.cpu_name)}, {host.cores} cores, {free}."))
    if current not in [option.value for option in options]:
        options.append(Option(current, current, reason="not on this machine"))
    return [*options, _several(len(machine.found.gpus))]


def _auto_detail(machine: MachineFacts) -> str:
    if not machine.found.gpus:
        return f"the CPU here: {machine.found.problem.partition(' (')[0]}"
    if not machine.usable:
        return "the CPU here: CUDA_VISIBLE_DEVICES hides every GPU"
    if not machine.cuda_build:
        return "the CPU here: the installed torch is a CPU build"
    best = max(machine.usable, key=lambda gpu: (gpu.memory_free_bytes or 0, -gpu.index))
    return f"{best.index} now: most memory free" if len(machine.usable) > 1 else f"{best.index}: the only one here"


def _gpu_option(gpu: GpuReading, machine: MachineFacts, current: str) -> Option:
    named = bool(gpu.uuid) and current == gpu.uuid
    total = f" · {size(gpu.memory_total_bytes)}" if gpu.memory_total_bytes else ""
    free = f" · {gpu.memory_free_bytes / GIB:.1f} free" if gpu.memory_free_bytes is not None else ""
    reason = ""
    if gpu not in machine.usable:
        reason = "hidden by CUDA_VISIBLE_DEVICES"
    elif not machine.cuda_build:
        reason = "the installed torch is a CPU build"
    name = safe(gpu.name or "GPU").replace("GeForce ", "")
    return Option(current if named else str(gpu.index), str(gpu.index), f"{name}{total}{free}", reason, gpu.label)


def _several(count: int) -> Option:
    if count < 2:
        return Option("several", "several GPUs", reason=f"needs two GPUs: this machine has {_COUNTS[count]}")
    return Option("several", "several GPUs", reason="not in this version", about="one GPU, chosen by compute.gpu")


# ---------------------------------------------------------------------------------------------------------- model


def model_options(device: Device | None) -> list[Option]:
    """The curated models, those that fit first and small before large, and a last one for anything else."""
    options = [_model_option(model, device) for model in by_size(device)]
    about = "Any chat model of the Hugging Face hub (owner/name), a folder with safetensors, or a .gguf file."
    return [*options, Option(OTHER_MODEL, "another", "hub name, folder or .gguf file", about=about, always=True)]


def _model_option(model: CuratedModel, device: Device | None) -> Option:
    reason = availability(model, device) or ""
    here = model.downloaded
    room = "here".rjust(7) if here else f"{model.download_bytes / GIB:.1f} GiB".rjust(7)
    detail = f"{parameters(model.parameters)}  {room}  {_licence(model)}{', gated' if model.gated and not here else ''}"
    gate = f" Its licence ({model.licence}) is at {model.page}." if model.gated and not reason else ""
    about = f"{model.name}: {model.what}; {counted(model.context)} tokens.{gate} {reason}".strip()
    short = f"{_licence(model)}, gated: hf auth login" if reason.startswith("gated") else _short(reason)
    return Option(model.repo, model.name.removesuffix("-v1.0"), detail, short, about)


def _licence(model: CuratedModel) -> str:
    """As short as a column wants it."""
    return model.licence.removesuffix(" Community License").replace(" Open License", "")


def _short(reason: str) -> str:
    """A reason for one line; the whole of it is shown where the cursor is."""
    for place in (" free on ", " free at "):
        head, found, _ = reason.partition(place)
        if found:
            return f"{head.replace(' of memory', '')} free"
    return reason


# -------------------------------------------------------------------------------------- schema, precision, exports


def choice_options(choices: Sequence[Choice]) -> list[Option]:
    """Schemas and formats; those that can't be chosen stay in the list, with the reason."""
    return [Option(each.value, each.value, "", each.unavailable.partition(":")[0], _about(each)) for each in choices]


def format_options(package: Mapping[ExportFormat, int], free_bytes: int) -> list[Option]:
    """What can be packaged, each with the room it takes; a format that finds none says so.

    Args:
        package: bytes of each format; empty while they are not known.
    """
    options = []
    for option in choice_options(FORMAT_CHOICES):
        needed = package.get(option.value)
        if needed and needed > free_bytes:
            option = replace(option, reason=f"needs {size(needed)}, {size(free_bytes)} free")
        elif needed:
            option = replace(option, detail=f"≈ {size(needed)}")
        options.append(option)
    return options


def _about(choice: Choice) -> str:
    return f"{choice.value}: {choice.what}. {choice.unavailable}".strip()


TINY, TINY_ROWS = "tiny", 12  # generated rows, as few as the demo's


def source_options() -> list[Option]:
    """Where the rows come from."""
    return [
        Option("local", "Local file", about=f"Rows of yours: {NAMES}."),
        Option("hub", "Hub", about="A data set of the Hugging Face hub: owner/name. Advanced has subset, split and revision."),
        Option("several", "Several", about="Several sources with weights: data.sources in Advanced, a line of JSON."),
        Option("bundled", "Demo, 12 rows", about="OpenAssistant conversations that come with Humigence: enough to try it."),
        Option(TINY, f"Generate {TINY_ROWS}", about="The smallest set that goes through every step: rows made here."),
        Option("generated", "Generate a set", about="Conversations on a dozen topics, made here: data.generate says how many."),
    ]


def template_options(model: str, found: Templates | None, chosen: str = "auto") -> list[Option]:
    """The model's own chat template, and the named ones; those that its vocabulary can't write say so.

    Args:
        chosen: today's; a file is offered as it is.
    """
    own = Option(
        "auto", "the model's own", about="The chat template the base model was trained with: nearly always the right one."
    )
    if found is not None and not found.own:
        own = Option("auto", own.label, reason="it has none", about=f"{safe(model)} has no chat template: choose one of these.")
    options = [own]
    for name, template in TEMPLATES.items():
        missing = found.lacking.get(name, "") if found else ""
        about = f"{name}: {template.what}." + (f" {safe(model)} has no token {safe(missing)}." if missing else "")
        options.append(Option(name, name, reason="not in its vocabulary" if missing else "", about=about))
    if is_file(chosen):
        options.append(Option(chosen, safe(chosen), about="A file of your own: humigence config set data.template PATH."))
    return options


def precision_options(config: Config | None, shape: ModelShape | None, device: Device | None) -> list[Option]:
    """Every mode; those that the device can't do, or that do not fit even with one row at a time, say so."""
    options = []
    for mode, precision in PRECISIONS.items():
        reason = _precision_reason(mode, config, shape, device)
        options.append(Option(mode, mode, "", reason, f"{mode}: {precision.what}. {reason}".strip()))
    return options


def _precision_reason(mode: PrecisionMode, config: Config | None, shape: ModelShape | None, device: Device | None) -> str:
    if lack := why_not(mode, device and replace(device, name="this GPU")):
        return f"needs {lack.needs}"
    if device is None or config is None or shape is None or not device.total_bytes:
        return ""
    tried = config.model_copy(update={"train": config.train.model_copy(update={"precision_mode": mode})})
    need = memory_of(tried, shape, device, 1, config.train.gradient_checkpointing is not False).total
    return "" if need <= device.free_bytes else f"needs {size(need)}, {size(device.free_bytes)} free"
