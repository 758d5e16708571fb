"""The generated parts of docs/models.md: the models to choose from, and what holds for each family."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.base_model.catalogue import MODELS, CuratedModel
from pipeline.common.text import counted, parameters
from pipeline.config.schema import Config
from pipeline.planning.micro_batch import memory_of
from pipeline.system.gpu import GIB, Device
from tests.families import FAMILIES
from tests.models.cells import COLUMNS, RESULTS, Cell, Results, Row, read_results

# Family of tests.families -> what a person calls it, and models of it.
TITLES: dict[str, tuple[str, str]] = {
    "llama-2": ("Llama 2", "Llama 2, TinyLlama, Vicuna"),
    "llama-3": ("Llama 3", "Llama 3.1, 3.2, 3.3"),
    "mistral": ("Mistral", "Mistral 7B v0.2, v0.3, Nemo"),
    "mistral-window": ("Mistral with a window", "Mistral 7B v0.1"),
    "qwen2": ("Qwen 2, 2.5", "Qwen2.5 0.5B to 72B"),
    "qwen2-window": ("Qwen 2 with a window", "Qwen 2 with `use_sliding_window`"),
    "qwen3": ("Qwen 3", "Qwen3 0.6B to 32B"),
    "qwen3-moe": ("Qwen 3 MoE", "Qwen3-30B-A3B"),
    "qwen3.5-text": ("Qwen 3.5, text", "Qwen3.5 without its images"),
    "qwen3.5": ("Qwen 3.5", "Qwen3.5 0.8B to 27B"),
    "qwen3-next": ("Qwen 3 Next", "Qwen3-Next-80B-A3B"),
    "gemma": ("Gemma", "Gemma 2B, 7B"),
    "gemma2": ("Gemma 2", "Gemma 2 2B, 9B, 27B"),
    "gemma3-text": ("Gemma 3, text", "Gemma 3 270M, 1B"),
    "gemma3": ("Gemma 3", "Gemma 3 4B, 12B, 27B"),
    "gemma4-text": ("Gemma 4, text", "Gemma 4 without images and sound"),
    "gemma4": ("Gemma 4", "Gemma 4 E2B, E4B, 31B"),
    "phi3": ("Phi-3", "Phi-3 mini 4k, medium, Phi-4"),
    "phi3-longrope": ("Phi-3, long", "Phi-3 mini 128k"),
    "phi4-mini": ("Phi-4 mini", "Phi-4-mini-instruct"),
    "smollm2": ("SmolLM 2", "SmolLM2 135M, 360M, 1.7B"),
    "smollm3": ("SmolLM 3", "SmolLM3-3B"),
    "granite": ("Granite 3", "Granite 3.0 to 3.3"),
    "granite4": ("Granite 4", "Granite 4.0 micro, 350M, 1B"),
    "granite4-hybrid": ("Granite 4 hybrid", "Granite 4.0 h-micro, h-tiny, h-small"),
    "lfm2": ("LFM 2", "LFM2 350M, 700M, 1.2B, 2.6B"),
    "falcon-h1": ("Falcon-H1", "Falcon-H1 0.5B to 34B"),
    "olmo2": ("OLMo 2", "OLMo 2 1B, 7B, 13B"),
    "olmo3": ("OLMo 3", "OLMo 3 7B, 32B"),
    "gpt-oss": ("gpt-oss", "gpt-oss 20b, 120b"),
    "gpt-neox": ("GPT-NeoX", "Pythia, GPT-NeoX 20B"),
    "opt": ("OPT", "OPT 125M to 66B"),
    "stablelm": ("StableLM", "StableLM 2, 3B"),
    "cohere2": ("Cohere 2", "Command R7B"),
    "starcoder2": ("StarCoder 2", "StarCoder2 3B, 7B, 15B"),
    "mixtral": ("Mixtral", "Mixtral 8x7B"),
    "gpt2": ("GPT-2", "GPT-2, DistilGPT-2"),
    "gpt-neo": ("GPT-Neo", "GPT-Neo 125M to 2.7B"),
    "gpt-j": ("GPT-J", "GPT-J 6B"),
    "codegen": ("CodeGen", "CodeGen 350M to 16B"),
    "bloom": ("BLOOM", "BLOOM 560M to 176B"),
    "falcon": ("Falcon", "Falcon 7B, 40B"),
    "falcon-alibi": ("Falcon with ALiBi", "Falcon-RW"),
    "bamba": ("Bamba", "Bamba 9B"),
    "recurrent-gemma": ("RecurrentGemma", "RecurrentGemma 2B, 9B"),
    "mamba": ("Mamba", "Mamba 130M to 2.8B"),
}
_CARD = Device("cuda", "a GPU", capability=(8, 9))


# --------------------------------------------------------------------------------------------------- the catalogue


def models_table() -> str:
    """The curated models by family, with the least memory that training takes."""
    head = ("model", "parameters", "context", "memory from", "licence", "good for")
    rows = [_model_row(model) for model in MODELS]
    return _table(head, rows, right=(1, 2, 3))


def _model_row(model: CuratedModel) -> tuple[str, ...]:
    gate = f"[{model.licence}]({model.page}), gated" if model.gated else model.licence
    return (
        f"`{model.repo}`",
        parameters(model.parameters),
        counted(model.context),
        f"{_least_memory(model) / GIB:.1f} GiB",
        gate,
        model.what,
    )


def _least_memory(model: CuratedModel) -> int:
    """Bytes on a GPU at the default settings, one row at a time with everything recomputed."""
    config = Config()
    row_tokens = min(config.data.max_seq_len, model.context)
    return memory_of(config, model.shape, _CARD, 1, True, row_tokens).total


# ---------------------------------------------------------------------------------------------------- the families


def families_table() -> str:
    """A row a family; in each cell a mark for the CPU and one for the GPU, those with a reason numbered."""
    cpu, cuda = read_results(RESULTS / "cpu.json"), read_results(RESULTS / "cuda.json")
    if cpu is None:
        return "Not tried yet.\n"
    notes = _Notes()
    head = ("family", *(title for title, _ in COLUMNS.values()), "for instance")
    rows = [
        (title, *_cells(cpu.families[name], cuda.families.get(name) if cuda else None, notes, cuda is not None), models)
        for name, (title, models) in TITLES.items()
        if name in cpu.families
    ]
    return "\n".join([_table(head, rows), *_legend(cpu, cuda), "", *notes.lines()]) + "\n"


def _cells(cpu: Row, cuda: Row | None, notes: _Notes, on_gpu: bool) -> Iterable[str]:
    """A mark for both devices where it is the same; `·` for one that was not tried on the GPU."""
    for column in COLUMNS:
        marks = [notes.mark(cpu[column])]
        if on_gpu:
            marks.append(notes.mark(cuda[column]) if cuda and column in cuda else "·")
        yield marks[0] if len(set(marks)) == 1 else " ".join(marks)


def _legend(cpu: Results, cuda: Results | None) -> list[str]:
    lines = [f"* **{title}**: {what}." for title, what in COLUMNS.values()]
    tried = [_tried("CPU", cpu), *([_tried(cuda.device, cuda)] if cuda else [])]
    two = " Where a cell has two marks the first is of the CPU, the second of the GPU; · was not tried there." if cuda else ""
    note = f" {cuda.note}" if cuda and cuda.note else ""
    return [*lines, "", f"Tried on {' and on '.join(tried)}.{two}{note}"]


def _tried(where: str, results: Results) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return f"{where}, {results.date} ({libraries})"


class _Notes:
    """The sentences behind the dashes, each numbered once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, cell: Cell) -> str:
        if cell.verdict == "yes":
            return "✔"
        said = f"{cell.at}: {cell.why}" if cell.at else cell.why
        number = self._numbers.setdefault(" ".join(said.split()), len(self._numbers) + 1)
        return f"{'–' if cell.verdict == 'no' else '✘'} {_small(number)}"

    def lines(self) -> list[str]:
        """One a line, as a person reads it."""
        return [f"{number}. {_plain(said)}" for said, number in self._numbers.items()]


def _small(number: int) -> str:
    return "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(number))


def _plain(said: str) -> str:
    """Nothing in it is Markdown."""
    return said.replace("|", "\\|").replace("<", "&lt;").replace("_", "\\_").replace("*", "\\*")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], right: tuple[int, ...] = ()) -> str:
    rule = ["---:" if column in right else "---" for column in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, tuple(rule), *rows)) + "\n"


def unnamed() -> set[str]:
    """Families that are tried and have no row."""
    return set(FAMILIES) - set(TITLES)
