"""A small Hugging Face hub on the loopback interface: one repository from a folder, and some that answer with an error."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

COMMIT = "c0ffee" + "0" * 34
ERRORS = {"owner/gated": (403, "GatedRepo"), "owner/broken": (500, "")}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlparse(self.path).path)
        self.asked.append(path)
        repository = "/".join(path.removeprefix("/api/models").strip("/").split("/")[:2])
        if repository != "owner/name":
            status, code = ERRORS.get(repository, (404, "RepoNotFound"))
            self._send(status, b"", {"X-Error-Code": code} if code else {}, body)
        elif path.startswith("/api/models/owner/name/tree/"):
            entries = [{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in self._files()]
            self._send(200, json.dumps(entries).encode(), {}, body)
        elif path.startswith("/api/models/"):
            self._model(path, body)
        else:
            self._file(path.split(f"/resolve/{COMMIT}/")[-1], body)

    def _model(self, path: str, body: bool) -> None:
        if "/revision/" in path and not path.endswith(("/main", COMMIT)):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"}, body)
            return
        siblings = [{"rfilename": name, "size": size} for name, size in self._files()]
        info = {"id": "owner/name", "modelId": "owner/name", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
        self._send(200, json.dumps(info).encode(), {}, body)

    def _file(self, name: str, body: bool) -> None:
        data = (self.folder / name).read_bytes()
        etag = hashlib.sha1(data).hexdigest()
        self._send(200, data, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}, body)

    def _files(self) -> list[tuple[str, int]]:
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [(str(path.relative_to(self.folder)), path.stat().st_size) for path in found]

    def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """(address, paths asked for so far) of a hub that has `folder` as owner/name."""
    asked: list[str] = []
    handler = type("Handler", (_Handler,), {"folder": folder, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
