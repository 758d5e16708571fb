"""The tokenizer of a GGUF file as a Hugging Face folder, kept on disk: the second start reads that.

transformers makes it anew from the file's vocabulary each time, seconds of work for the same tokenizer. A copy holds for the very
file and library versions it was made of; it is kept only where what is read from it is what was written, to the byte of the files
that it would be saved as, and one that is damaged counts as none.
"""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.cache import SEAL, cache_folder, forget, is_whole, last_used_first
from pipeline.common.files import fingerprint, new_folder, sha256_file, write_json

if TYPE_CHECKING:
    from pipeline.base_model.locate import BaseModel

# Raise it when a copy of the same tokenizer would be written otherwise.
_VERSION = 1
_LIBRARIES = ("transformers", "tokenizers", "gguf")
_KEPT = 8  # copies, a few MB each; those that were used the longest ago go

_log = logging.getLogger(__name__)


def read_through_copy(base: BaseModel, from_file: Callable[[], Any], from_folder: Callable[[Path], Any]) -> Any:
    """A GGUF file's tokenizer: from its copy where there is one, else from the file, and a copy for the next time.

    Args:
        from_file: reads it from the file.
        from_folder: reads one from a folder. Both raise `BadInput` where it can't be read.
    """
    from pipeline.common.errors import BadInput

    folder = folder_of(base)
    if is_whole(folder, _digests):
        try:
            return from_folder(folder)
        except BadInput:  # written by what we take for the same libraries
            forget(folder)
    tokenizer = from_file()
    _keep(folder, tokenizer, from_folder)
    return tokenizer


def folder_of(base: BaseModel) -> Path:
    """Where the copy of this very file's tokenizer is, or would be."""
    found = base.path.resolve().stat()
    versions = [importlib.metadata.version(each) for each in _LIBRARIES]
    named = [str(base.path.resolve()), found.st_size, found.st_mtime_ns]
    return cache_folder("tokenizers") / fingerprint("tokenizer", _VERSION, versions, named, base.own_tokenizer_fingerprint())


def _digests(folder: Path) -> dict[str, str]:
    return {each.name: sha256_file(each) for each in sorted(folder.iterdir()) if each.name != SEAL}


def _keep(folder: Path, tokenizer: Any, from_folder: Callable[[Path], Any]) -> None:
    """Write the copy, where it gives the same tokenizer back; nothing is lost where it does not, or can't be written."""
    try:
        with tempfile.TemporaryDirectory() as temporary:
            once, again = Path(temporary) / "once", Path(temporary) / "again"
            tokenizer.save_pretrained(once)
            read = from_folder(once)
            read.save_pretrained(again)
            if type(read) is not type(tokenizer) or _digests(once) != _digests(again):
                _log.info("no copy of the tokenizer was kept: what is read from it would be another")
                return
            with new_folder(folder) as made:
                shutil.copytree(once, made, dirs_exist_ok=True)
                write_json(made / SEAL, {"sha256": _digests(once)})
        for old in last_used_first(folder.parent)[_KEPT:]:
            forget(old)
    except (OSError, ValueError) as error:
        _log.info("no copy of the tokenizer was kept: %s", error)
