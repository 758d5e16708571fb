"""Writing files so that a reader sees the old state or the new one, never a mixture; and naming contents by hash.

Nothing here imports more than the standard library: the crash tests start it by the thousand.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: a rename is only on disk once its folder is."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(path: Path, content: str | bytes, *, keep_backup: bool = False) -> None:
    """Replace `path` by `content`: temporary name, flush, rename, flush of the folder.

    Args:
        keep_backup: leave what was there before as `<name>.bak`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), _mode_for(path))
            os.fsync(file.fileno())
        if keep_backup and path.exists():
            _copy_as_backup(path)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    fsync_folder(path.parent)


def _mode_for(path: Path) -> int:
    """The mode a replaced file had; for a new one what the umask allows."""
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask


def _copy_as_backup(path: Path) -> None:
    # Through a temporary name as well: a crash here must not leave half a backup under the good name.
    temporary = path.with_name(f".{path.name}.bak.tmp")
    shutil.copy2(path, temporary)
    os.replace(temporary, path.with_name(path.name + ".bak"))


def write_json(path: Path, value: Any, *, keep_backup: bool = False) -> None:
    """`write_atomic` of an indented JSON document."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A file name that is not UTF-8 holds lone surrogates; this spells them as JSON does: \udce9.
    write_atomic(path, text.encode("utf-8", "backslashreplace"), keep_backup=keep_backup)


def read_json(path: Path) -> Any:
    """The document at `path`. Raises `FileNotFoundError` and `json.JSONDecodeError`."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name; it appears as `path`, whole and flushed, when the block ends.

    An older folder at `path` is replaced. When the block raises, nothing appears.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        flush_tree(temporary)
        _swap_folder(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _swap_folder(new: Path, path: Path) -> None:
    """Put `new` at `path`; at every moment one of the two stands there, whole (where the kernel can exchange names)."""
    if path.exists():
        if _exchange(new, path):
            fsync_folder(path.parent)
            shutil.rmtree(new, ignore_errors=True)
            return
        old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
        os.replace(path, old / "was")
        os.replace(new, path)
        fsync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
        return
    os.replace(new, path)
    fsync_folder(path.parent)


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step, as Linux's renameat2 does; False where the kernel or the file system can't."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    error = ctypes.get_errno()
    if error in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(error, os.strerror(error), str(second))


def flush_tree(folder: Path) -> None:
    """Flush every file and folder below `folder` to disk, deepest first."""
    for parent, _folders, files in os.walk(folder, topdown=False):
        for name in files:
            fd = os.open(os.path.join(parent, name), os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        fsync_folder(Path(parent))


def sha256_file(path: Path) -> str:
    """Hex digest of the file's bytes, read in bounded memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(*parts: Any) -> str:
    """Sixteen hex digits that change when any of `parts` (JSON values) changes."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
