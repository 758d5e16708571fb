"""Writing files so that a reader sees the old state or the new one, never a mixture; and naming contents by hash.

Nothing here imports more than the standard library: the crash tests start it by the thousand.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: a rename is only on disk once its folder is."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # CIFS and some FUSE file systems can't, and have no need to
            raise
    finally:
        os.close(fd)


def make_folder(path: Path) -> None:
    """`path` and what is missing above it, each name durable. Nothing happens where it is there already."""
    missing = list(takewhile(lambda each: not each.exists(), (path, *path.parents)))
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # somebody else made it just now
            folder.mkdir()
        fsync_folder(folder.parent)


def write_atomic(path: Path, content: str | bytes, *, keep_backup: bool = False) -> None:
    """Replace `path` by `content`: temporary name, flush, rename, flush of the folder.

    Args:
        keep_backup: leave what was there before as `<name>.bak`.
    """
    make_folder(path.parent)
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
    _flush(temporary)
    os.replace(temporary, path.with_name(path.name + ".bak"))


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_json(path: Path, value: Any, *, keep_backup: bool = False) -> None:
    """`write_atomic` of an indented JSON document.

    Raises:
        ValueError: a number in it is not finite.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A file name that is not UTF-8 holds lone surrogates; this spells them as JSON does: \udce9.
    write_atomic(path, text.encode("utf-8", "backslashreplace"), keep_backup=keep_backup)


def read_json(path: Path) -> Any:
    """The document at `path`.

    Raises:
        FileNotFoundError: there is none.
        json.JSONDecodeError, UnicodeDecodeError: it is damaged.
    """
    return json.loads(path.read_text(encoding="utf-8"))


@contextlib.contextmanager
def new_folder(path: Path, named: Callable[[], str] | None = None) -> Iterator[Path]:
    """Fill a folder under a temporary name; it appears as `path`, whole and flushed, when the block ends.

    An older folder at `path` is replaced. When the block raises, nothing appears. What a killed process left of the same folder
    is put back or cleared away first.

    Args:
        named: asked at the end for another name, where what is in it decides that.
    """
    make_folder(path.parent)
    _clear_left_behind(path)
    with _claimed_folder(path, ".tmp") as temporary:
        try:
            yield temporary
            flush_tree(temporary)
            _swap_folder(temporary, path.with_name(named()) if named else path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _swap_folder(new: Path, path: Path) -> None:
    """Put `new` at `path`; at every moment one of the two stands there, whole (where the kernel can exchange names)."""
    if not path.exists():
        os.replace(new, path)
        fsync_folder(path.parent)
    elif _exchange(new, path):
        fsync_folder(path.parent)
        shutil.rmtree(new, ignore_errors=True)
    else:
        with _claimed_folder(path, ".old") as old:
            os.replace(path, old / _WAS)
            os.replace(new, path)
            fsync_folder(path.parent)
            shutil.rmtree(old, ignore_errors=True)


_WAS = "was"


@contextlib.contextmanager
def _claimed_folder(path: Path, suffix: str) -> Iterator[Path]:
    """A new folder beside `path` that nobody else clears away while the block lasts."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=suffix, dir=path.parent))
        with contextlib.ExitStack() as claim:
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                claim.callback(os.close, fd)
                with contextlib.suppress(OSError):  # a file system without such locks: nobody clears anything away there
                    fcntl.flock(fd, fcntl.LOCK_EX)
            if folder.exists():  # else somebody took it for a dead process's in the moment before it was claimed
                yield folder
                return


def _clear_left_behind(path: Path) -> None:
    """What processes that died left of `path`: an older folder that had been moved aside goes back, the rest goes."""
    for entry in os.scandir(path.parent):
        ours = entry.name.startswith(f".{path.name}.") and entry.name.endswith((".tmp", ".old"))
        if ours and entry.is_dir(follow_symlinks=False):
            _clear_if_dead(Path(entry.path), path)


def _clear_if_dead(folder: Path, path: Path) -> None:
    with contextlib.ExitStack() as claim:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            claim.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # in use, gone by now, or no such locks here
            return
        if (folder / _WAS).is_dir() and not path.exists():
            os.replace(folder / _WAS, path)
            fsync_folder(path.parent)
        shutil.rmtree(folder, ignore_errors=True)


# ------------------------------------------------------------------------------------------------ clearing away

_TEMPORARY = (".tmp", ".old")
_WRITTEN_IN_S = 3600.0  # far longer than any single file takes; a file, unlike a folder, does not name its writer


def left_behind(folder: Path) -> list[Path]:
    """Temporary folders and files directly in `folder` whose process has died."""
    return [path for path in _temporaries(folder) if _is_dead(path)]


def clear_left_behind(folder: Path) -> None:
    """Clear those away; an older folder that had been moved aside, and has no successor, goes back to its place."""
    for path in left_behind(folder):
        if path.is_dir():
            name = path.name.removeprefix(".").rsplit(".", 2)[0]
            _clear_if_dead(path, folder / name)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def remove_folder(path: Path) -> None:
    """Delete a folder and everything in it. It loses its name first: a death in the middle leaves no half of it under it."""
    with _claimed_folder(path, ".tmp") as grave:
        os.replace(path, grave / "gone")
        fsync_folder(path.parent)
        shutil.rmtree(grave)


def disk_bytes(path: Path) -> int:
    """What a folder and everything in it take of the disk. Links are not followed; what vanishes meanwhile counts not."""
    total, waiting = 0, [path]
    while waiting:
        each = waiting.pop()
        with contextlib.suppress(FileNotFoundError, PermissionError):
            found = os.lstat(each)
            total += found.st_blocks * 512  # of 512 bytes whatever the file system's own size (stat(2))
            if stat.S_ISDIR(found.st_mode):
                waiting += (Path(entry.path) for entry in os.scandir(each))
    return total


def _temporaries(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder) if entry.name[0] == "." and entry.name.endswith(_TEMPORARY)]
    except OSError:  # not there, or not ours to look at
        return []


def _is_dead(path: Path) -> bool:
    try:
        if not path.is_dir():
            return time.time() - path.lstat().st_mtime > _WRITTEN_IN_S
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(fd)


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
            _flush(Path(parent, name))
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
