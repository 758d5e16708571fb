"""Which files of a data set hold the rows of a split: as its card says (`configs`), else by how its files are called.

The rules are those of the `datasets` library, without its loading scripts: no code of a repository is ever fetched.
Source: https://huggingface.co/docs/hub/datasets-data-files-configuration
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.config.schema import HubSection
from pipeline.dataset.readers import registry as readers
from pipeline.dataset.readers.compressed import SUFFIXES as PACKED_SUFFIXES

DEFAULT = "default"
_TRAIN = "train"
_MOST_NAMED = 12
_TEXT_SUFFIXES = (".txt", ".text")
_NO_TEXTS = ("license.txt", "requirements.txt", "readme.txt")
_WORDS = {
    _TRAIN: ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SHARD = re.compile(r"(?:.*/)?data/(?P<split>\w+(?:\.\w+)*)-\d{5}-of-\d{5}(?:-\w+)?\.[\w.]+")
# What the hub makes of a data set, on its branch refs/convert/parquet.
_CONVERTED = re.compile(r"(?P<subset>[^/]+)/(?:partial-)?(?P<split>[^/]+)/\d{4}\.parquet")

Splits = dict[str, tuple[str, ...]]
"""Split -> its files, in the order of their names."""


@dataclass(frozen=True)
class Chosen:
    """Which rows of a data set are meant.

    Attributes:
        files: in the order of their names.
        other_splits, other_subsets: what there is beside them.
        left_out: files of the split that are of another kind than most of it.
    """

    subset: str
    split: str
    files: tuple[str, ...]
    other_splits: tuple[str, ...] = ()
    other_subsets: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def choose(names: Iterable[str], card: Mapping[str, Any], hub: HubSection) -> Chosen:
    """The files of the subset and split that are asked for.

    Args:
        names: of all files of the repository.
        card: the metadata of its card.

    Raises:
        BadInput: it has no files of rows, or not that subset or split; names those there are.
    """
    names = sorted(name for name in names if not name.startswith("/") and ".." not in name.split("/"))
    rows = [name for name in names if readers.holds_rows(name) and not name.startswith(".")]
    rows = rows or [name for name in names if name.lower().endswith(_TEXT_SUFFIXES) and name.lower() not in _NO_TEXTS]
    if not rows:
        raise _without_rows(names, hub.repo)
    subsets = _of_card(rows, card, hub.repo) or _converted(rows) or {DEFAULT: _by_name(rows)}
    subset = _picked("subset", hub.subset, list(subsets), _usual_subset(card, subsets), hub.repo)
    splits = subsets[subset]
    split = _picked("split", hub.split, list(splits), _TRAIN, hub.repo)
    files = _of_one_kind(splits[split])
    return Chosen(
        subset,
        split,
        files,
        tuple(name for name in splits if name != split),
        tuple(name for name in subsets if name != subset),
        tuple(name for name in splits[split] if name not in files),
    )


def _without_rows(names: Sequence[str], repo: str) -> BadInput:
    if any(name == f"{repo.rpartition('/')[2]}.py" for name in names):
        return BadInput(
            f"data.hub.repo: {repo} has a loading script and no rows of its own; Humigence runs no script",
            "humigence config set data.hub.revision refs/convert/parquet  takes what the hub made of it, where it did",
        )
    kinds = Counter(PurePosixPath(name).suffix or name for name in names if not name.startswith("."))
    found = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "nothing"
    return BadInput(f"data.hub.repo: {repo} has no file of rows that can be read ({found})", f"it takes {readers.NAMES}")


def _picked(what: str, asked: str | None, there: Sequence[str], usual: str, repo: str) -> str:
    """The one that is asked for; without that the usual one, or the only one."""
    if asked in there:
        return str(asked)
    if asked is None and (usual in there or len(there) == 1):
        return usual if usual in there else there[0]
    hint = f"humigence config set data.hub.{what} {there[0]}"
    if asked is None:
        raise BadInput(f"data.hub.{what}: {repo} has several, say which: {_named(there)}", hint)
    raise BadInput(f"data.hub.{what}: {repo} has none called {asked!r}: {_named(there)}", hint)


def _named(there: Sequence[str]) -> str:
    more = f" and {len(there) - _MOST_NAMED} more" if len(there) > _MOST_NAMED else ""
    return f"{', '.join(there[:_MOST_NAMED])}{more}"


def _usual_subset(card: Mapping[str, Any], subsets: Mapping[str, Splits]) -> str:
    marked = (str(each.get("config_name")) for each in _configs(card) if each.get("default") is True)
    return next((name for name in marked if name in subsets), DEFAULT)


def _of_one_kind(files: Sequence[str]) -> tuple[str, ...]:
    """Those of the commonest kind: a data set that is there as Parquet and as JSON is there once."""
    kind, _ = Counter(map(_kind, files)).most_common(1)[0]
    return tuple(name for name in files if _kind(name) == kind)


def _kind(name: str) -> str:
    for packed in PACKED_SUFFIXES:
        name = name.removesuffix(packed)
    return PurePosixPath(name).suffix.lower()


# ------------------------------------------------------------------------------------------------------- by the card


def _configs(card: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = card.get("configs")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _of_card(rows: Sequence[str], card: Mapping[str, Any], repo: str) -> dict[str, Splits]:
    """Subset -> its splits, as the card's `configs` name their files; empty where it names none."""
    subsets: dict[str, Splits] = {}
    for each in _configs(card):
        name, folder = str(each.get("config_name") or DEFAULT), str(each.get("data_dir") or "")
        if "data_files" in each:
            wanted = _patterns(each["data_files"])
            splits = {split: _matching(rows, patterns, folder, repo) for split, patterns in wanted.items()}
        elif folder:
            splits = _by_name([row for row in rows if row.startswith(f"{_plain(folder).rstrip('/')}/")])
        else:
            continue
        if kept := {split: files for split, files in splits.items() if files}:
            subsets[name] = kept
    return subsets


def _patterns(data_files: Any) -> dict[str, list[str]]:
    """Split -> patterns, from any of the forms a card may have."""
    if isinstance(data_files, dict):
        return {str(split): _texts(patterns) for split, patterns in data_files.items()}
    if isinstance(data_files, list) and data_files and all(isinstance(each, dict) for each in data_files):
        return {str(each.get("split") or _TRAIN): _texts(each.get("path")) for each in data_files}
    return {_TRAIN: _texts(data_files)}


def _texts(value: Any) -> list[str]:
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def _matching(rows: Sequence[str], patterns: Sequence[str], folder: str, repo: str) -> tuple[str, ...]:
    for pattern in patterns:
        if "://" in pattern:
            raise BadInput(
                f"data.hub.repo: the card of {repo} names rows outside of it: {pattern[:100]}", "download that file yourself"
            )
    expressions = [_expression(f"{_plain(folder).rstrip('/')}/{_plain(each)}" if folder else _plain(each)) for each in patterns]
    return tuple(row for row in rows if any(each.fullmatch(row) for each in expressions))


def _plain(path: str) -> str:
    return path.removeprefix("./").lstrip("/")


def _expression(pattern: str) -> re.Pattern[str]:
    """A pattern of a card: `*` and `?` within a folder's name, `**` over folders; a folder stands for all below it."""
    parts = []
    for piece in re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]/]+\])", pattern):
        kinds = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        if piece in kinds:
            parts.append(kinds[piece])
        elif piece.startswith("[") and piece.endswith("]"):
            parts.append(f"[{'^' if piece[1] in '!^' else ''}{re.escape(piece[1:-1].lstrip('!^')).replace(chr(92) + '-', '-')}]")
        else:
            parts.append(re.escape(piece))
    try:
        return re.compile(f"{''.join(parts)}(?:(?<=/).*|/.*)?" if not pattern.endswith("*") else "".join(parts))
    except re.error:
        return re.compile(re.escape(pattern))


# ---------------------------------------------------------------------------------------------------- by their names


def _converted(rows: Sequence[str]) -> dict[str, Splits]:
    """Subsets as the hub's own conversion to Parquet lays them out; empty for another layout."""
    found = [_CONVERTED.fullmatch(row) for row in rows]
    subsets: dict[str, Splits] = {}
    for match in found:
        if match is None:
            return {}
        splits = subsets.setdefault(match["subset"], {})
        splits[match["split"]] = (*splits.get(match["split"], ()), match[0])
    return subsets


def _by_name(rows: Sequence[str]) -> Splits:
    """Splits by the names of shards, of folders, or of files; without any, all are train."""
    shards = _grouped((match["split"], row) for row in rows if (match := _SHARD.fullmatch(row)))
    return (
        shards
        or _grouped((split, row) for row in rows for split in _split_in(row.rpartition("/")[0].split("/")))
        or _grouped((split, row) for row in rows for split in _split_in([row.rpartition("/")[2]]))
        or {_TRAIN: tuple(rows)}
    )


def _split_in(parts: Sequence[str]) -> list[str]:
    """The split that a folder or a file is called after; none where it is called after none."""
    words = {word for part in parts for word in re.split(r"[-._ 0-9]+", part.lower())}
    return [split for split, names in _WORDS.items() if words & set(names)][:1]


def _grouped(pairs: Iterable[tuple[str, str]]) -> Splits:
    splits: dict[str, list[str]] = {}
    for split, row in pairs:
        splits.setdefault(split, []).append(row)
    return {split: tuple(files) for split, files in splits.items()}
