"""Whether rows can be read from a path at all: a regular file or some, allowed to this user, of a kind that has a reader."""

from __future__ import annotations

import codecs
import errno
import os
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path

from pipeline.common.errors import BadInput
from pipeline.dataset.readers import manifest
from pipeline.dataset.readers.files import is_several
from pipeline.dataset.readers.registry import data_file, listed, reader_of

RAW_PATH_HINT = "humigence config set data.raw_path PATH; data.source bundled takes the demo rows"
_HEAD_BYTES = 64
# What a file of another kind begins with, what that is, and the command that makes text of it.
_OTHER_FORMATS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x04\x22\x4d\x18", "compressed with lz4", "lz4 -dc {file} > {text}"),
    (b"PK\x03\x04", "a zip archive", "unzip -p {file} > {text}"),
    (b"SQLite format 3\x00", "an SQLite database", "write it as JSONL first"),
    (codecs.BOM_UTF32_LE, "UTF-32 text", "iconv -f UTF-32 -t UTF-8 {file} > {text}"),
    (codecs.BOM_UTF32_BE, "UTF-32 text", "iconv -f UTF-32 -t UTF-8 {file} > {text}"),
    (codecs.BOM_UTF16_LE, "UTF-16 text", "iconv -f UTF-16 -t UTF-8 {file} > {text}"),
    (codecs.BOM_UTF16_BE, "UTF-16 text", "iconv -f UTF-16 -t UTF-8 {file} > {text}"),
)


def require_readable(path: Path, key: str = "data.raw_path", missing_hint: str = "") -> None:
    """Check that rows may be read from `path`.

    Args:
        key: the setting that names the file.
        missing_hint: what to do when there is no such file.

    Raises:
        BadInput: says what the path is instead, or what its contents are.
    """
    if sources := manifest.sources_of(path):
        several = len([each for each in sources if not each.split]) > 1 or len(sources) == 1
        for source in sources:
            if source.split:
                require_readable(source.path, f"data.{source.split}_path")
            elif several:
                require_readable(source.path, "data.sources", f"humigence config set data.sources; {source.title} is not there")
            else:
                require_readable(source.path, key, missing_hint)
        return
    if is_several(path):
        for file in _listed(path, key):
            require_allowed(file, key)
        return
    what, hint = _not_a_file(path)
    if not what:
        what, hint = _not_text(path)
    if what:
        raise BadInput(f"{key}: {path}: {what}", hint or missing_hint or f"humigence config set {key} PATH")


def _listed(path: Path, key: str) -> Sequence[Path]:
    try:
        return listed(path).files
    except BadInput as error:
        raise BadInput(f"{key}: {error.message}", error.hint) from error


def require_allowed(path: Path, key: str) -> None:
    """Raise `BadInput` where it is no file that this user may read."""
    what, hint = _not_a_file(path)
    if what:
        raise BadInput(f"{key}: {path}: {what}", hint)


def _not_a_file(path: Path) -> tuple[str, str]:
    """(why it is no file that can be read, what to do), both empty when it is one."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return _not_there(path, error), ""
    except ValueError:
        return "a path can't hold a NUL character", ""
    if stat.S_ISREG(mode):
        allowed = os.access(path, os.R_OK)
        return ("", "") if allowed else ("may not be read by this user", f"chmod u+r {shlex.quote(str(path))}")
    pipe = "is a pipe; rows are read more than once, so it has to be a file"
    return pipe if stat.S_ISFIFO(mode) else "is a device or a socket, not a file", ""


def _not_there(path: Path, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a symbolic link that leads back to itself"
    if error.errno == errno.ENOENT and path.is_symlink():
        return f"is a symbolic link to {os.readlink(path)}, which is not there"
    return "no such file" if error.errno in (errno.ENOENT, errno.ENOTDIR) else error.strerror or str(error)


def _not_text(path: Path) -> tuple[str, str]:
    """(what the file holds instead of UTF-8 text, the command that mends it), both empty for what may be text, or need not."""
    try:
        if not reader_of(path).is_text:
            return "", ""
        with data_file(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        return error.strerror or str(error), ""
    for begins, what, hint in _OTHER_FORMATS:
        if head.startswith(begins):
            return f"is {what}, not rows", _command(hint, path)
    for name, zeros in (("UTF-16LE", head[1::2]), ("UTF-16BE", head[::2])):
        # Without a byte order mark: every second byte of Latin text is zero.
        if len(head) >= 4 and zeros.count(0) * 4 > len(zeros) * 3 and head.count(0) < len(head) * 3 // 4:
            return f"is {name} text, not UTF-8", _command(f"iconv -f {name} -t UTF-8 {{file}} > {{text}}", path)
    return "", ""


def _command(pattern: str, path: Path) -> str:
    """The command with its names filled in. It must not write to the file it reads, wherever it is typed."""
    return pattern.format(file=shlex.quote(str(path)), text=shlex.quote(f"{path.stem}-text.jsonl"))
