"""Every byte of a downloaded base model against what the hub announced: in its cache each file is named by its digest.

A cut file, a header that lies and a missing shard are found without this (`locate.problems_of`); a bit that flipped on the disk
is not.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.base_model.locate import BaseModel
from pipeline.common.files import sha256_file

_SHA256, _GIT_BLOB = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Contents:
    """Names of the model's files: those that are what the hub announced, those that are not, those of which nothing is known."""

    as_announced: tuple[str, ...]
    damaged: tuple[Path, ...]
    unknown: tuple[str, ...]


def compare_with_hub(base: BaseModel) -> Contents:
    """Read every file of the model to its end, and compare its digest with the name it has in the hub cache.

    Takes as long as the disk reads the weights.
    """
    files = [base.path] if base.kind == "gguf" else sorted(path for path in base.path.iterdir() if path.is_file())
    same = {path: _is_as_announced(path) for path in files}
    return Contents(
        tuple(path.name for path, right in same.items() if right),
        tuple(path for path, right in same.items() if right is False),
        tuple(path.name for path, right in same.items() if right is None),
    )


def _is_as_announced(path: Path) -> bool | None:
    """None where the file is not one of a hub cache, which names large files by their SHA-256 and small ones as git does."""
    blob = path.resolve()
    if blob.parent.name != "blobs":
        return None
    if _SHA256.fullmatch(blob.name):
        return sha256_file(blob) == blob.name
    if _GIT_BLOB.fullmatch(blob.name):
        content = blob.read_bytes()
        digest = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
        digest.update(content)
        return digest.hexdigest() == blob.name
    return None
