"""One file of a repository into the hub cache: goes on where a cut download ended, and is what the hub says it is.

huggingface_hub starts a file over when its process or its connection dies; a base model is gigabytes. So its blobs are filled
here, under the name the hub's client looks for (`blobs/<etag>`), and the client then only links them into a snapshot. A blob
appears whole or not at all; what is fetched so far stands beside it as `<etag>.incomplete`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline.common.errors import EnvironmentFault, Stopped
from pipeline.common.files import fsync_folder, sha256_file
from pipeline.hub.answers import RETRY, CutShort, NotTheHub, first_line, refuse_page
from pipeline.hub.repository import Repository

# Seconds between attempts that bring no byte; one that does starts the row again.
WAITS_S = (1.0, 2.0, 4.0, 8.0, 15.0)
# Before anything has come: most likely there is no network, and a person waits.
FIRST_WAITS_S = (1.0, 2.0)
_LONGEST_WAIT_S = 60.0  # whatever Retry-After asks for
_PASSING = (408, 429, 500, 502, 503, 504)
_SHA256 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub announces it.

    Attributes:
        size: bytes.
        etag: the name of its blob in the cache; the sha256 of the contents where the file is large.
    """

    repository: Repository
    commit: str
    name: str
    size: int
    etag: str

    @property
    def blob(self) -> Path:
        return self.repository.folder / "blobs" / self.etag

    @property
    def part(self) -> Path:
        return self.blob.with_name(self.etag + ".incomplete")

    def present(self) -> int:
        """Bytes of it that are here."""
        for path in (self.blob, self.part):
            try:
                return min(self.size, path.stat().st_size)
            except FileNotFoundError:
                continue
        return 0


@dataclass(frozen=True)
class FetchCallbacks:
    """What a fetch calls while it lasts.

    Attributes:
        advance: called with each number of bytes that came; negative where bytes are thrown away.
        warn: called with a sentence when something went wrong and the fetch goes on.
        stop: whether the person wants it to end.
    """

    advance: Callable[[int], None]
    warn: Callable[[str], None]
    stop: Callable[[], bool]


def announced(repository: Repository, commit: str, name: str, listed_size: int) -> RemoteFile:
    """Ask the hub about a file. `listed_size` is what its list says, used where the file's own answer has no size.

    Raises:
        NotTheHub: whoever answers is not the hub.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    found = get_hf_file_metadata(hf_hub_url(repository.name, name, repo_type=repository.kind, revision=commit))
    if not found.etag or not found.commit_hash:
        raise NotTheHub("")
    size = listed_size if found.size is None else found.size
    return RemoteFile(repository, commit, name, size, os.path.basename(found.etag))


def fetch(file: RemoteFile, callbacks: FetchCallbacks) -> None:
    """Make `file.blob` whole: reuse it, complete it, or fetch it.

    Raises:
        EnvironmentFault: it arrives damaged twice, or the line brings nothing more.
        Stopped: `callbacks.stop()`; what came stays.
    """
    file.blob.parent.mkdir(parents=True, exist_ok=True)
    if file.blob.exists():
        if file.blob.stat().st_size == file.size and not _damage(file.blob, file):
            return
        callbacks.advance(-file.present())
        callbacks.warn(f"{file.name} is damaged in the cache: fetching it again")
        file.blob.unlink()
    for last in (False, True):
        _complete(file, callbacks)
        damage = _damage(file.part, file)
        if not damage:
            break
        callbacks.advance(-file.present())
        file.part.unlink()
        if last:
            raise EnvironmentFault(f"{file.name} of {file.repository.name} arrives damaged: {damage}", _DAMAGED)
        callbacks.warn(f"{file.name} arrived damaged ({damage}): fetching it again from the start")
    os.replace(file.part, file.blob)
    fsync_folder(file.blob.parent)


_DAMAGED = "a proxy or mirror in between may alter it: unset HF_ENDPOINT or use another network, then try again"


def _damage(path: Path, file: RemoteFile) -> str:
    """Why the bytes at `path` are not the file, or ""."""
    if _SHA256.fullmatch(file.etag) and sha256_file(path) != file.etag:
        return "its sha256 is not the one the hub tells"
    return ""


def _complete(file: RemoteFile, callbacks: FetchCallbacks) -> None:
    """Bring the part to its full size, over as many connections as it takes."""

    if file.part.exists() and file.part.stat().st_size > file.size:
        file.part.unlink()

    def go_on() -> None:
        if file.present() < file.size or not file.part.exists():
            _receive(file, callbacks)

    persistently(go_on, callbacks, progress=file.present)


def _receive(file: RemoteFile, callbacks: FetchCallbacks) -> None:
    """One connection: append what it brings."""
    from huggingface_hub import constants, get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    have = file.present()
    headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    url = hf_hub_url(file.repository.name, file.name, repo_type=file.repository.kind, revision=file.commit)
    with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
        hf_raise_for_status(response)
        refuse_page(response)
        if have and not _continues(response, have):
            callbacks.advance(-have)
            have = 0
        with file.part.open("r+b" if have else "wb") as part:
            part.seek(have)
            _append(response, part, file.size - have, callbacks)
            part.flush()
            os.fsync(part.fileno())
    if file.present() < file.size:
        raise CutShort(f"{file.name} ended after {file.present():,} of {file.size:,} bytes")


def _continues(response: Any, have: int) -> bool:
    """Whether the answer starts where our part ends; a server may ignore the wish and send all of it."""
    return response.status_code == 206 and str(response.headers.get("content-range")).startswith(f"bytes {have}-")


def _append(response: Any, part: Any, most: int, callbacks: FetchCallbacks) -> None:
    for chunk in response.iter_bytes():
        if callbacks.stop():
            raise Stopped("stopped while downloading", RETRY)
        chunk = chunk[:most]  # never more than was announced, whatever is sent: the room was checked for that
        part.write(chunk)
        most -= len(chunk)
        callbacks.advance(len(chunk))
        if not most:
            return


# ---------------------------------------------------------------------------------------------------- persistence


def persistently(
    ask: Callable[[], T], callbacks: FetchCallbacks, *, progress: Callable[[], int] = lambda: 0, first: bool = False
) -> T:
    """Call `ask` again when the line or the hub fails in passing, until it fails without progress too often.

    Args:
        progress: grows when an attempt brought something although it failed.
        first: nothing has come from the hub yet.

    Raises:
        Stopped: `callbacks.stop()` while waiting.
        Exception: what the last attempt raised.
    """
    from huggingface_hub import errors as hub

    transport: type[Exception] = hub.HTTPError  # type: ignore[attr-defined]
    waits, reached = iter(FIRST_WAITS_S if first else WAITS_S), progress()
    while True:
        try:
            return ask()
        except (transport, ConnectionError, TimeoutError) as error:
            if not _passes(error):
                raise
            what = "the hub does not answer as it should"
            if progress() > reached:
                waits, reached = iter(WAITS_S), progress()
                what = f"the connection was cut after {reached:,} bytes"
            wait = next(waits, None)
            if wait is None:
                raise
            wait = _wait_asked_for(error, wait)
            callbacks.warn(f"{what} ({first_line(error)}): trying again in {wait:.0f} s")
            _pause(wait, callbacks)


def _passes(error: Exception) -> bool:
    """Whether trying again can help."""
    response = getattr(error, "response", None)
    if response is not None:
        return response.status_code in _PASSING
    return type(error).__name__ != "ProxyError" and "certificate" not in str(error).lower()


def _wait_asked_for(error: Exception, wait: float) -> float:
    headers = getattr(getattr(error, "response", None), "headers", {})
    asked = headers.get("retry-after", "")
    return min(_LONGEST_WAIT_S, max(wait, float(asked))) if asked.isdigit() else wait


def _pause(seconds: float, callbacks: FetchCallbacks) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if callbacks.stop():
            raise Stopped("stopped while downloading", RETRY)
        time.sleep(min(left, 0.2))
