"""A package on its way to the hub: what is sent is said, nothing else is, and nothing without a yes."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from humigence_tui.cli import push as module
from pipeline.common.errors import BadInput, MissingArtifact
from tests.hub import use_hub_home
from tests.pipeline.export.gguf.test_families_exported import made
from tests.pipeline.export.made import package_of, write


@dataclass
class Hub:
    """Takes what is sent."""

    made: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    status: int = 200
    address: str = ""

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        if self.status != 200:
            return self.status, {"error": "no"}
        if path.endswith("/repos/create"):
            self.made.append(json.loads(body))
            return 200, {"url": f"{self.address}/owner/mine", "id": "owner/mine"}
        if path.endswith("/validate-yaml"):
            return 200, {"errors": [], "warnings": []}
        if "/preupload/" in path:
            asked = json.loads(body)["files"]
            return 200, {"files": [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in asked]}
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        return 200, {"commitUrl": f"{self.address}/owner/mine/commit/1", "commitOid": "1", "success": True}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    from huggingface_hub import constants

    found = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, document = found.answer(self.path, self._body())
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _body(self) -> bytes:
            if "Content-Length" in self.headers:
                return self.rfile.read(int(self.headers["Content-Length"]))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_hub_home(monkeypatch, tmp_path / "hub")
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a" * 34)
    found.address = address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", address, raising=False)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", address)
    yield found
    server.shutdown()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pushed")
    base, adapter = made(place, "smollm2")
    return write(place, package_of(place, base, adapter, "peft_adapter", "merged"))


def test_the_format_is_sent_with_its_card_and_nothing_of_anybody_elses(
    hub: Hub, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (package / "diary.txt").write_text("mine")
    module.push(str(package), "owner/mine", yes=True)
    assert {"README.md", "adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= set(hub.files)
    assert "diary.txt" not in hub.files and not any("/" in name for name in hub.files)
    assert hub.files["README.md"] == (package / "README.md").read_bytes() and _is_private(hub.made[0])
    told = capsys.readouterr()
    assert told.out.strip() == f"{hub.address}/owner/mine/commit/1" and "is not known here" in told.err
    hub.files.clear()
    module.push(str(package), "owner/mine", format_name="merged", public=True, yes=True)
    assert "model.safetensors" in hub.files and "adapter_model.safetensors" not in hub.files and not _is_private(hub.made[1])


def test_nothing_is_sent_without_a_yes(hub: Hub, package: Path) -> None:
    with pytest.raises(BadInput, match="nobody can be asked"):
        module.push(str(package), "owner/mine")
    assert not hub.made and not hub.files


def test_what_was_changed_or_is_not_there_is_not_sent(hub: Hub, package: Path) -> None:
    with pytest.raises(MissingArtifact, match="holds no gguf_q8_0"):
        module.push(str(package), "owner/mine", format_name="gguf_q8_0", yes=True)
    card = package / "merged" / "README.md"
    before = card.read_text()
    card.write_text(before + "more")
    with pytest.raises(BadInput, match="not as it was packaged"):
        module.push(str(package), "owner/mine", format_name="merged", yes=True)
    card.write_text(before)
    assert not hub.files


def test_a_token_that_may_not_write_is_told(hub: Hub, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.status = 403
    with pytest.raises(BadInput, match="does not let this token write to owner/mine"):
        module.push(str(package), "owner/mine", yes=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(MissingArtifact, match="no token"):
        module.push(str(package), "owner/mine", yes=True)


def _is_private(asked: dict[str, Any]) -> bool:
    """As the client of today says it, and as older ones did."""
    return bool(asked.get("private", asked.get("visibility") == "private"))
