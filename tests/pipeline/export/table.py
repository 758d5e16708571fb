"""The generated parts of docs/exports.md: what each format is, and of which families it is made."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from pipeline.base_model.locate import BaseModel
from pipeline.config.schema import Config, ExportFormat
from pipeline.export.formats.gguf import GGUF_FORMATS
from pipeline.planning.export_formats import EXPORT_FORMATS
from tests.families import FAMILIES, config_of
from tests.models.table import TITLES
from tests.pipeline.export.gguf.test_families_exported import WRITTEN
from tests.pipeline.export.int8.test_int8_exported import FAMILIES as IN_EIGHT_BITS

# Format, title of its column, families of which a test makes and opens it.
_COLUMNS: tuple[tuple[ExportFormat, str, tuple[str, ...]], ...] = (
    ("merged", "`merged`", tuple(TITLES)),
    ("gguf_q8_0", "`gguf_…`", tuple(WRITTEN)),
    ("gguf_lora", "`gguf_lora`", tuple(WRITTEN)),
    ("ollama", "`ollama`", tuple(WRITTEN)),
    ("runtime_int8", "`runtime_int8`", IN_EIGHT_BITS),
    ("vllm_int8", "`vllm_int8`", IN_EIGHT_BITS),
)


def formats_table() -> str:
    """Each format in a row."""
    rows = [f"| `{name}` | `{outline.folder or '.'}/` | {outline.what} |" for name, outline in EXPORT_FORMATS.items()]
    return "\n".join(["| format | where | what it is |", "| --- | --- | --- |", *rows]) + "\n"


def families_table() -> str:
    """Each family in a row: ✔ is a test that opens the export and compares it; a number leads to what a person reads."""
    notes = dict[str, int]()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for family, (title, _) in TITLES.items():
            base = _base(Path(folder), family)
            cells = [_cell(name, family, tried, base, notes) for name, _, tried in _COLUMNS]
            rows.append(f"| {title} | {' | '.join(cells)} |")
    heads = [title for _, title, _ in _COLUMNS]
    listed = [f"{number}. {note}" for note, number in notes.items()]
    several = (
        f"`gguf_…` are {', '.join(f'`{name}`' for name in GGUF_FORMATS)}, each a test of its own. `merged_bf16` and "
        "`merged_fp16` are `merged` in another type."
    )
    table = [f"| family | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}", *rows]
    return "\n".join([*table, "", several, "", *listed]) + "\n"


def _cell(name: ExportFormat, family: str, tried: tuple[str, ...], base: BaseModel, notes: dict[str, int]) -> str:
    if family in tried:
        return "✔"
    why = re.sub(r"of the kind \S+ are", "of this kind are", EXPORT_FORMATS[name].refusal(Config(), base))
    return f"– {_raised(notes.setdefault(why, len(notes) + 1))}" if why else "·"


def _base(folder: Path, family: str) -> BaseModel:
    """Its config, as far as a refusal looks into it."""
    document = config_of(family).to_dict() | {"model_type": FAMILIES[family].model_type}
    (folder / "config.json").write_text(json.dumps(document, default=str), encoding="utf-8")
    return BaseModel(folder, "folder", family)


def _raised(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
