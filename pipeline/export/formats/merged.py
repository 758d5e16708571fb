"""The adapter merged into its base: a complete transformers folder that needs neither peft nor the base model.

In the base's own type, or in one that is chosen. It lies in a folder of its own below the package: beside an
`adapter_config.json` transformers would take its weights for the base and add the adapter once more.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.base_model.locate import INDEX
from pipeline.base_model.shape import checked_shape
from pipeline.base_model.untrusted_files import safetensors_header
from pipeline.common.errors import BadInput
from pipeline.common.files import fingerprint, read_json, write_json
from pipeline.config.schema import ExportFormat
from pipeline.export import cards
from pipeline.export.formats.format import Format, Reuse, Watch, Written
from pipeline.export.merge.bfloat16 import NAMES
from pipeline.export.merge.lora_weights import Adapter
from pipeline.export.merge.safetensors import Tally, merge_files
from pipeline.export.model_folder import CONFIG, are_whole, take_weights, write_beside_weights
from pipeline.export.package import Package
from pipeline.export.package_folder import MANIFEST
from pipeline.planning.export_formats import EXPORT_FORMATS, merged_weight_bytes

# Raise it when the same adapter and base would be merged into other weights.
_VERSION = 1
# Below it a person is warned: half of what was taught is lost to rounding.
_LEAST_KEPT = 0.5


@dataclass(frozen=True)
class Kind:
    """One of the formats.

    Attributes:
        dtype: as safetensors calls the type that every weight is held in; None for the one each has in the base's files.
        title: what a person calls it.
    """

    name: ExportFormat
    title: str
    dtype: str | None = None

    @property
    def folder(self) -> str:
        return EXPORT_FORMATS[self.name].folder


@dataclass(frozen=True)
class Merged:
    """What `humigence.json` says of the merged model.

    Attributes:
        fingerprint: of what its weights were made from.
        dtype: what they are held in.
        kept: of what the adapter adds, the share that was not lost to rounding to that type.
    """

    fingerprint: str
    dtype: str
    kept: float

    @classmethod
    def from_json(cls, document: Any) -> Merged:
        """Raises TypeError for what no version of ours wrote."""
        return cls(**{each.name: document[each.name] for each in fields(cls) if each.name in document})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def merged_fingerprint(package: Package, kind: Kind) -> str:
    """Changes when the weights of the merged model would."""
    made_from = [package.trained.adapter_sha256(), package.base.weights_fingerprint()]
    return fingerprint("merged", _VERSION, *made_from, *([kind.dtype] if kind.dtype else []))


def ready(kind: Kind, old: Path, manifest: dict[str, Any], package: Package) -> bool:
    """Whether the merged weights in the package at `old` are those that would be made, every byte."""
    try:
        found = Merged.from_json(manifest[kind.name])
    except (KeyError, TypeError):
        return False
    return found.fingerprint == merged_fingerprint(package, kind) and are_whole(old, kind.folder)


def write(kind: Kind, folder: Path, package: Package, watch: Watch) -> Written:
    """Fill the format's folder below `folder`.

    Args:
        watch: called after each weight with its bytes; may raise.

    Raises:
        BadInput: the base model is quantized, or the adapter belongs to another.
        OutOfMemory: there is no room for a few rows of a weight, or for a GGUF base's weights.
    """
    into = folder / kind.folder
    into.mkdir()
    tally, config = _merge(package, kind.dtype, into, watch)
    merged = Merged(merged_fingerprint(package, kind), tally.dtype, tally.kept)
    _write_beside_weights(into, package, merged, config)
    return Written(merged.to_json(), {f"{kind.folder}/{name}": digest for name, digest in tally.digests.items()})


def take(kind: Kind, folder: Path, package: Package, old: Path) -> Written:
    """As `write`, the weights taken over from the package at `old`, where they are `ready`."""
    digests = take_weights(old, folder, kind.folder)
    merged = Merged.from_json(read_json(old / MANIFEST)[kind.name])
    _write_beside_weights(folder / kind.folder, package, merged, read_json(old / kind.folder / CONFIG))
    return Written(merged.to_json(), digests)


def _merge(package: Package, dtype: str | None, into: Path, watch: Watch) -> tuple[Tally, dict[str, Any]]:
    base, adapter = package.base, Adapter(package.trained.checkpoint)
    checked_shape(base)
    if base.kind == "gguf":
        from pipeline.export.merge.gguf_base import merge_gguf

        tally, config = merge_gguf(base, adapter, into, watch, dtype)
    else:
        config = read_json(base.path / CONFIG)
        if "quantization_config" in config:
            raise BadInput(f"{base.name} is quantized already", "merge into the model it was made from")
        tally = merge_files(base.weight_files(), adapter, into, watch, dtype)
        if (base.path / INDEX).is_file() and len(tally.digests) > 1:
            _write_index(base.path / INDEX, into, dtype)
        config |= _held_in(dtype)
    return tally, config


def _write_index(source: Path, into: Path, dtype: str | None) -> None:
    """Which weight lies in which file: as in the base, whose files keep their names."""
    if dtype is None:
        shutil.copyfile(source, into / INDEX)
        return
    headers = [safetensors_header(file)[0] for file in sorted(into.glob("*.safetensors"))]
    entries = [entry for header in headers for name, entry in header.items() if name != "__metadata__"]
    total = sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in entries)
    document = read_json(source)
    write_json(into / INDEX, document | {"metadata": {**(document.get("metadata") or {}), "total_size": total}})


def _held_in(dtype: str | None) -> dict[str, str]:
    """What `config.json` says of a chosen type."""
    return {"dtype": NAMES[dtype], "torch_dtype": NAMES[dtype]} if dtype else {}


def _write_beside_weights(into: Path, package: Package, merged: Merged, config: dict[str, Any]) -> None:
    """What belongs to the weights, and the card."""
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    licences = write_beside_weights(into, package.base, ChatTokenizer.load(package.base), config)
    cards.write_card(into / "README.md", cards.merged_card(package, merged.dtype, merged.kept, licences))


def _warning(record: dict[str, Any]) -> str:
    if record["kept"] >= _LEAST_KEPT:
        return ""
    lost = f"rounding to {record['dtype']} leaves {100 * record['kept']:.0f} % of what the adapter adds to the weights"
    return f"{lost}: the merged model may answer like the base; the adapter by itself loses nothing"


def _format(kind: Kind) -> Format:
    return Format(
        name=kind.name,
        title=kind.title,
        doing="merging",
        command="humigence merge" if kind.name == "merged" else f"humigence export {kind.name}",
        needs_bytes=lambda package: merged_weight_bytes(package.base, in_16_bits=kind.dtype is not None),
        write=partial(write, kind),
        reuse=Reuse(partial(ready, kind), partial(take, kind)),
        summary=lambda record: f"{kind.title} ({record['dtype']})",
        warning=_warning,
    )


FORMATS = (
    _format(Kind("merged", "merged model")),
    _format(Kind("merged_bf16", "merged model in bfloat16", "BF16")),
    _format(Kind("merged_fp16", "merged model in float16", "F16")),
)
