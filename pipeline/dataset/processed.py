"""The prepared data of a config: where it is, whether it is there, and what a plan or a trainer needs of it.

`data/processed/<fingerprint>/` holds, for each of train, val and test, the cleaned conversations (`train.jsonl`), the tokenized
documents (`train/`, Arrow: `input_ids` and `labels`, int32), their lengths (`train.lengths.npy`, `train.trained.npy`), whose they
are (`train.owners.npy`), what their labels weigh where rows say so (`train.loss_weights.npy`), and `report.json`. The folder
appears whole or not at all. Two configs that differ in nothing that matters here share it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.base_model.stop_tokens import named_stop_ids
from pipeline.common.files import fingerprint, read_json, sha256_file
from pipeline.config.affects import settings_of
from pipeline.config.file import shipped
from pipeline.config.follows import origin
from pipeline.config.schema import Config
from pipeline.dataset import sources
from pipeline.dataset.hub import rows as hub_rows
from pipeline.dataset.loss_weights import LossWeights
from pipeline.dataset.packing import pack, row_capacity
from pipeline.dataset.readers import manifest, parquet
from pipeline.dataset.readers.compressed import SUFFIXES as PACKED_SUFFIXES
from pipeline.dataset.readers.files import is_several, sha256_of
from pipeline.dataset.readers.registry import parts_of
from pipeline.dataset.sniff import USUAL, found_schema
from pipeline.runs.folders import Workspace
from pipeline.tokenization.fingerprint import tokenizer_fingerprint

if TYPE_CHECKING:
    from datasets import Dataset

    from pipeline.base_model.locate import BaseModel
    from pipeline.dataset.figures import DataFigures

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
# Raised when the same rows would be prepared differently.
FORMAT_VERSION = 2
# Raised when rows would be grouped differently.
GROUPS_VERSION = 2
# Prepared rows are kept as text and as tokens, and once more while they are divided: bytes for each byte of the raw file.
PREPARED_OVER_RAW = 6
# Text as gzip, zstd or Parquet hold it, unpacked: bytes for each byte.
_UNPACKED_OVER_PACKED = 4
_PACKED = (*PACKED_SUFFIXES, *parquet.READER.suffixes)
# In a report: ids that end an answer by what the base model's files say, in order.
STOP_TOKENS = "stop_tokens"
BUNDLED_DEMO = "demo/oa_demo.jsonl"
# So a report names rows of which an older version took no notice of the weights.
_WEIGHTS_IGNORED = "weights other than 0 and 1 (they count as 1)"


@dataclass(frozen=True)
class ProcessedData:
    """One prepared data set.

    Attributes:
        report: what `report.json` says.
    """

    folder: Path
    fingerprint: str
    report: dict[str, Any]

    def lengths(self, split: Split) -> NDArray[np.int32]:
        """Tokens of each document, in the order of `dataset(split)`."""
        return _array(self.folder / f"{split}.lengths.npy")

    def trained_lengths(self, split: Split) -> NDArray[np.int32]:
        """Tokens with a label of each document. At least one."""
        return _array(self.folder / f"{split}.trained.npy")

    def owners(self, split: Split) -> NDArray[np.int32]:
        """Of each document, the number of its conversation; where an older version prepared them, each its own."""
        path = self.folder / f"{split}.owners.npy"
        return _array(path) if path.exists() else np.arange(len(self.lengths(split)), dtype=np.int32)

    def loss_weights(self, split: Split) -> LossWeights | None:
        """What the labels of the documents weigh in the loss; None where all weigh one."""
        path = self.folder / f"{split}.loss_weights.npy"
        return LossWeights(path, int(self.trained_lengths(split).sum(dtype=np.int64))) if path.exists() else None

    def dataset(self, split: Split) -> Dataset:
        """Documents with `input_ids` and `labels` (-100 where not trained, always on the first), read from disk as needed."""
        from datasets import Dataset

        return Dataset.load_from_disk(str(self.folder / split))

    def rows(self, split: Split) -> Iterator[dict[str, Any]]:
        """The cleaned conversations: `{"messages": [{"role", "content"}, …]}`."""
        with (self.folder / f"{split}.jsonl").open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)

    def figures(self, config: Config) -> DataFigures:
        """What a plan asks of the training rows, counted."""
        from pipeline.dataset.figures import DataFigures

        lengths = self.lengths("train")
        rows, capacity = packed_rows(lengths, config)
        return DataFigures(
            rows=rows,
            row_tokens=capacity,
            conversations=self.report["splits"]["train"]["conversations"],
            tokens=int(lengths.sum(dtype=np.int64)),
            trained_tokens=int(self.trained_lengths("train").sum(dtype=np.int64)),
            exact=True,
        )


def packed_rows(lengths: NDArray[np.int32], config: Config) -> tuple[int, int]:
    """(rows that the training documents of these lengths make, tokens a row holds)."""
    tokens = int(lengths.sum(dtype=np.int64))
    capacity = row_capacity(tokens, int(lengths.max(initial=1)), config.data.max_seq_len)
    return len(pack(lengths, capacity, config.data.packing)), capacity


def _array(path: Path) -> NDArray[np.int32]:
    array: NDArray[np.int32] = np.load(path, allow_pickle=False)
    return array


def find_processed(config: Config, workspace: Workspace) -> ProcessedData | None:
    """What was prepared for this config, or None: not prepared, or its model or raw file is not here."""
    from pipeline.base_model.locate import locate

    base, raw = locate(config, workspace), raw_file(config, workspace)
    begun = _begun.get()
    if base is None or not ((begun and raw in begun.digests) or parts_of(raw)):
        return None
    return read_processed(folder_of(config, workspace, base))


def read_processed(folder: Path) -> ProcessedData | None:
    """The prepared data in `folder`, or None where there is none.

    It is made again where its report is damaged or says that weights were ignored; a run that is resumed stays with what it has.
    """
    try:
        report = read_json(folder / "report.json")
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    begun = _begun.get()
    if _WEIGHTS_IGNORED in report.get("left_out", {}) and not (begun and begun.rows == folder):
        return None
    return ProcessedData(folder, folder.name, report)


def raw_file(config: Config, workspace: Workspace) -> Path:
    """The file or the files the rows come from, those that are named for val and test among them."""
    if config.data.source == "several":
        return sources.as_one(config, workspace)
    path = divided_file(config, workspace)
    return sources.as_one(config, workspace, path) if config.data.held_out_paths else path


def divided_file(config: Config, workspace: Workspace) -> Path:
    """The rows of a config that names one source for them, without those that it names for val and test; the shipped demo where
    the config names it and no copy is there yet."""
    if config.data.source == "hub":
        return hub_rows.path_of(config.data.hub)
    path = workspace.resolve(config.data.raw_path)
    return shipped(BUNDLED_DEMO) if origin(config.data) == "bundled" and not path.exists() else path


def is_resumed() -> bool:
    """Whether this is a run that goes on with the rows it began with."""
    begun = _begun.get()
    return begun is not None and begun.rows is not None


def prepared_bytes(raw: Path) -> int:
    """About what the prepared rows of a raw file or of several take on the disk."""
    return PREPARED_OVER_RAW * sum(
        file.stat().st_size * (_UNPACKED_OVER_PACKED if file.name.endswith(_PACKED) else 1) for file in parts_of(raw)
    )


def folder_of(config: Config, workspace: Workspace, base: BaseModel) -> Path:
    """`data/processed/<fingerprint>/` for this config, model and raw file; inside `as_begun` of the run that goes on.

    Reads the whole raw file the first time.
    """
    if (begun := _begun.get()) and begun.rows:
        return begun.rows
    drawn, grouped = folders_of(config, workspace, base)
    return grouped if (grouped / "report.json").exists() else drawn


def folders_of(config: Config, workspace: Workspace, base: BaseModel) -> tuple[Path, Path]:
    """The folder where each row is in the split that it was drawn for by itself, and the one where groups were brought together.

    Which one it is follows from the rows. So what an older version prepared is found wherever today's would be the same.
    """
    raw = raw_file(config, workspace)
    settings = settings_of(config, "rows")
    of_data = settings.pop("data")
    # What "auto" comes to counts, and without windows nothing does.
    del of_data["window_overlap"]
    if config.data.row_schema == "auto":
        of_data["schema"] = found_schema(raw, config.data.columns) if parts_of(raw) else USUAL
    overlap = config.data.overlap if config.data.over_long == "window" else 0
    prepared_by = {
        "format": FORMAT_VERSION,
        "libraries": [version("transformers"), version("tokenizers")],
        "raw": raw_digest(raw),
        "tokenizer": tokenizer_fingerprint(base),
        **settings,
        **of_data,
        "over_long": [of_data["over_long"], overlap],
    }
    processed = workspace.resolve(config.data.processed_dir)

    def named(by: dict[str, Any]) -> tuple[Path, Path]:
        return processed / fingerprint(by), processed / fingerprint(by | {"groups": GROUPS_VERSION})

    # Where an answer is trained to its end follows from the stop tokens; only what was prepared with others is not it.
    folders, stops = named(prepared_by), sorted(named_stop_ids(base))
    return named(prepared_by | {"stop tokens": stops}) if any(_has_others(each, stops) for each in folders) else folders


def _has_others(folder: Path, stops: list[int]) -> bool:
    """Whether rows were prepared there with other stop tokens than these; of an older version it is not known."""
    with suppress(OSError, json.JSONDecodeError):
        return bool(read_json(folder / "report.json").get(STOP_TOKENS, stops) != stops)
    return False


def raw_digest(raw: Path) -> str:
    """SHA-256 of a raw file; inside `as_begun` of the file as it was then."""
    begun = _begun.get()
    if begun is None:
        return raw_digest_now(raw)
    return begun.digests.get(raw) or begun.digests.setdefault(raw, raw_digest_now(raw))


def raw_digest_now(raw: Path) -> str:
    """SHA-256 of a raw file as it is; of a folder or a pattern, of what its files are called and hold. Raises `OSError`."""
    if several := manifest.sources_of(raw):
        return manifest.digest_of(several, tuple(raw_digest_now(each.path) for each in several))
    if not is_several(raw):
        return _sha256_of(raw)
    return sha256_of([(file, _sha256_of(file)) for file in parts_of(raw)], raw if raw.is_dir() else raw.parent)


def _sha256_of(file: Path) -> str:
    status = file.stat()
    return _sha256(file, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class _Begun:
    """What a run began with: digests of raw files by path, and the prepared rows of one that is resumed."""

    digests: dict[Path, str]
    rows: Path | None


# Of the run in this thread: a screen that looks at the same file meanwhile sees it as it is.
_begun: ContextVar[_Begun | None] = ContextVar("begun", default=None)


@contextmanager
def as_begun(known: Mapping[Path, str], rows: Path | None = None) -> Iterator[None]:
    """Inside, a raw file is what it was at the first look, or what `known` says: a run stays with the rows it began with.

    Somebody may edit the file while the run is on. The rows prepared from it are still there, under the digest it had.

    Args:
        rows: the prepared data of a run that is resumed, where it is still there: other versions of the libraries would prepare
            it under another name, and perhaps otherwise.
    """
    token = _begun.set(_Begun(dict(known), rows))
    try:
        yield
    finally:
        _begun.reset(token)


@lru_cache(maxsize=512)
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    # Asked by every step of a run; size and time of change only say when to look again.
    return sha256_file(path)
