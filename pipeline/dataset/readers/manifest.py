"""A file that names several sources, each with how its rows are written: they are read as one, one after the other.

Written by `pipeline.dataset.sources`; whatever reads a file of rows reads these with no more ado.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import BadInput
from pipeline.config.schema import HeldOutSplit
from pipeline.dataset.readers import json_values
from pipeline.dataset.readers.reader import DataFile, Form

_KEY = "humigence_sources"
_BEGINS = f'{{"{_KEY}":'.encode()
# In how many bits a row's place in its own source is told: a folder of files needs 56.
PLACE_BITS = 56


@dataclass(frozen=True)
class Source:
    """One of several.

    Attributes:
        title: what it is called.
        path: where its rows are.
        weight: how often its training rows are trained in an epoch.
        rows: how many of its conversations are taken; None for all.
        split: that all of its rows are in, where a person named them for that; "" where they are divided.
    """

    title: str
    path: Path
    form: Form
    weight: float = 1.0
    rows: int | None = None
    split: HeldOutSplit | Literal[""] = ""


def is_manifest(path: DataFile) -> bool:
    """Whether it is such a file. Raises `OSError`."""
    return json_values.head_of(path).startswith(_BEGINS)


def written(sources: tuple[Source, ...]) -> bytes:
    """The file's contents."""
    entries = [{**_without_empty(asdict(each)), "path": str(each.path)} for each in sources]
    return (json.dumps({_KEY: 1, "sources": entries}) + "\n").encode()


def _without_empty(entry: dict[str, Any]) -> dict[str, Any]:
    """As before there were splits with rows of their own, where there are none: the same list under the same name."""
    return entry if entry["split"] else {key: value for key, value in entry.items() if key != "split"}


def sources_of(path: Path) -> tuple[Source, ...]:
    """What a manifest names; () where the path is none or not there.

    Raises:
        BadInput: it is damaged.
    """
    try:
        if not path.is_file() or not is_manifest(path):
            return ()
        return tuple(_source(each) for each in json.loads(path.read_bytes())["sources"])
    except OSError:
        return ()
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: is a list of sources that is damaged", "delete it: it is made anew") from error


def own_splits(sources: Sequence[Source]) -> NDArray[np.int8]:
    """Of each source, by its number: 1 where all of it is val, 2 where it is test, 0 where it is divided."""
    return np.array([("", "val", "test").index(each.split) for each in sources], dtype=np.int8)


class Met:
    """Conversations that were met, to know their twins by. A trained row is no twin of one that a person named for val or test:
    it belongs to that, which is another matter."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._splits = [each.split for each in sources]
        self._names: dict[str, set[bytes]] = {}

    def among(self, form: Form | None) -> set[bytes]:
        """Digests of those that a row of this form can be a twin of."""
        return self._names.setdefault(self._splits[form.number] if form else "", set())


def _source(entry: dict[str, Any]) -> Source:
    form = Form(entry["form"]["number"], entry["form"]["schema"], tuple(entry["form"]["columns"]))
    return Source(entry["title"], Path(entry["path"]), form, entry["weight"], entry["rows"], entry.get("split", ""))


def digest_of(sources: tuple[Source, ...], contents: tuple[str, ...]) -> str:
    """A digest of sources: how each is read, how much of it is taken, and of its contents, wherever it lies."""
    told = [
        [each.title, each.form.schema, list(each.form.columns), each.weight, each.rows, digest, *filter(None, [each.split])]
        for each, digest in zip(sources, contents, strict=True)
    ]
    return hashlib.sha256(json.dumps(told).encode("utf-8", "surrogatepass")).hexdigest()
