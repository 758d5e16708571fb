"""A small Hugging Face hub on the loopback interface: a repository from a folder, as a model and as a data set, some that answer
with an error, and a line that can be cut, altered, slowed down or taken over by a proxy."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from tests.waiting import PATIENCE_S

COMMIT = "c0ffee" + "0" * 34
# repository -> status, X-Error-Code, X-Error-Message
ERRORS = {
    "owner/gated": (401, "GatedRepo", "Access to model owner/gated is restricted."),
    "owner/licence": (403, "GatedRepo", "You are not in the authorized list."),
    "owner/review": (403, "GatedRepo", "Your request to access it is awaiting a review from the repo authors."),
    "owner/rejected": (403, "GatedRepo", "Your request to access model owner/rejected has been rejected by the repo's authors."),
    "owner/finegrained": (
        403, "GatedRepo",
        "Please enable access to public gated repositories in your fine-grained token settings to view this repository.",
    ),
    "owner/badtoken": (401, "", "Invalid credentials in Authorization header"),
    "owner/forbidden": (403, "", "Your token has not the right"),
    "owner/disabled": (403, "", "Access to this resource is disabled."),
    "owner/busy": (429, "", ""),
    "owner/broken": (500, "", ""),
}  # fmt: skip
# Like a gated repository as it is: everybody may read what it is, not everybody its files.
ERRORS_OF_FILES = {"owner/locked": (403, "GatedRepo", "You are not in the authorized list.")}
PAGE = b"<!doctype html><html><head><title>Guest network: please log in</title></head><body></body></html>"


@dataclass
class Hub:
    """How the hub behaves, and what it saw. Tests change it while it serves."""

    folder: Path
    asked: list[str] = field(default_factory=list)  # paths, HEAD and GET
    methods: set[str] = field(default_factory=set)
    ranges: list[tuple[str, str]] = field(default_factory=list)  # (file, Range header or "") of each GET of a file
    authorizations: set[str] = field(default_factory=set)
    cut_after: int | None = None  # bytes of a file sent before the connection drops
    cuts: int = 0  # how many connections are still to be cut
    damage: int = 0  # how many GETs of weights still get a flipped bit
    announce: dict[str, int] = field(default_factory=dict)  # file -> size told instead of the true one
    ranges_ignored: bool = False
    page_instead_of: str = ""  # "api", "file", "everything", or "contents": GETs of files only
    card: dict[str, Any] = field(default_factory=dict)  # metadata that the repository's card has
    commit: str = COMMIT
    held: threading.Event | None = None  # each file's second half waits for it


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlparse(self.path).path)
        self.hub.asked.append(path)
        self.hub.methods.add(self.command)
        self.hub.authorizations.add(self.headers.get("Authorization", ""))
        path = re.sub("^/api/datasets/", "/api/models/", re.sub("^/datasets/", "/", path))  # a data set is served as a model is
        repository = "/".join(path.removeprefix("/api/models").strip("/").split("/")[:2])
        kind = "api" if path.startswith("/api/") else "file"
        page = {kind, "everything"} | ({"contents"} if kind == "file" and body else set())
        if self.hub.page_instead_of in page:
            self._send(200, PAGE, {"Content-Type": "text/html"}, body)
        elif repository == "owner/firewall":
            self._send(403, PAGE, {"Content-Type": "text/html; charset=utf-8"}, body)
        elif kind == "api" and repository in ERRORS_OF_FILES:
            self._model(path, body)
        elif repository != "owner/name":
            status, code, message = (ERRORS | ERRORS_OF_FILES).get(repository, (404, "RepoNotFound", ""))
            told = {"X-Error-Code": code, "X-Error-Message": message}
            self._send(status, b"", {name: value for name, value in told.items() if value}, body)
        elif path.startswith("/api/models/owner/name/tree/"):
            entries = [{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in self._files()]
            self._send(200, json.dumps(entries).encode(), {}, body)
        elif kind == "api":
            self._model(path, body)
        else:
            self._file(re.sub(f"^/owner/name/resolve/(main|{self.hub.commit})/", "", path), body)

    def _model(self, path: str, body: bool) -> None:
        if "/revision/" in path and not path.endswith(("/main", self.hub.commit)):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"}, body)
            return
        siblings = [{"rfilename": name, "size": size} for name, size in self._files()]
        info = {"id": "owner/name", "modelId": "owner/name", "sha": self.hub.commit, "siblings": siblings, "private": False}
        info |= {"tags": [], "cardData": self.hub.card}
        self._send(200, json.dumps(info).encode(), {}, body)

    def _file(self, name: str, body: bool) -> None:
        data = (self.hub.folder / name).read_bytes()
        weights = name.endswith((".safetensors", ".parquet"))  # what is stored as large files
        etag = (hashlib.sha256 if weights else hashlib.sha1)(data).hexdigest()
        headers = {
            "X-Repo-Commit": self.hub.commit,
            "X-Linked-Etag": f'"{etag}"',
            "X-Linked-Size": str(self._told_size(name, len(data))),
        }
        if not body:
            self._send(200, data, headers, body)
            return
        wish = self.headers.get("Range", "")
        self.hub.ranges.append((name, wish))
        if weights and self.hub.damage:
            self.hub.damage -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = int(re.fullmatch(r"bytes=(\d+)-", wish)[1]) if wish and not self.hub.ranges_ignored else 0  # type: ignore[index]
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(206 if start else 200, data[start:], headers, body, cut=weights)

    def _told_size(self, name: str, size: int) -> int:
        return self.hub.announce.get(name, size)

    def _files(self) -> list[tuple[str, int]]:
        found = sorted(path for path in self.hub.folder.rglob("*") if path.is_file())
        return [(str(path.relative_to(self.hub.folder)), path.stat().st_size) for path in found]

    def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not body:
            return
        if cut and self.hub.cut_after is not None and self.hub.cuts:
            self.hub.cuts -= 1
            data = data[: self.hub.cut_after]
            self.close_connection = True
        half = len(data) // 2 if cut and self.hub.held else len(data)
        self.wfile.write(data[:half])
        if cut and self.hub.held:
            self.wfile.flush()
            self.hub.held.wait(PATIENCE_S)
            self.wfile.write(data[half:])


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Hub]]:
    """(address, how it behaves) of a hub that has `folder` as owner/name."""
    hub = Hub(folder)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", hub
    finally:
        if hub.held:
            hub.held.set()
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE_S)
