"""The licence files that come with a base model: what is made of its weights carries them along."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.base_model import untrusted_files
from pipeline.base_model.locate import BaseModel

_NAMES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
_MOST_BYTES = 1 << 20


def licence_files(base: BaseModel) -> list[Path]:
    """Licences that lie beside a base model's weights."""
    if base.kind == "gguf":
        return []
    found = sorted(path for pattern in _NAMES for path in base.path.glob(pattern))
    return [path for path in found if path.is_file() and path.stat().st_size <= _MOST_BYTES]


def copy_licences(base: BaseModel, folder: Path) -> list[str]:
    """Put them into `folder`; returns their names."""
    found = [path for path in licence_files(base) if not untrusted_files.leads_out(path, base.path)]
    for path in found:
        shutil.copyfile(path, folder / path.name)
    return [path.name for path in found]
