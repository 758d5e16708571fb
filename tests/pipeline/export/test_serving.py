"""llama.cpp's server of a GGUF file: OpenAI's protocol, a token where others reach it, and an end with the one who asked."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.common.errors import BadInput
from pipeline.export.gguf.write import Made, write_gguf
from pipeline.export.merge.lora_weights import Adapter
from pipeline.export.serving import Served, serving
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests.pipeline.export.gguf.test_families_exported import made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    base, adapter = made(folder, "smollm2")
    path = folder / "m.gguf"
    write_gguf(path, base, Adapter(adapter), ChatTokenizer.load(base), Made("m"), "f16", lambda _: None)
    return path


def _ask(address: str, path: str, body: Any = None, token: str = "", origin: str = "") -> Any:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    headers |= {"Origin": origin} if origin else {}
    request = urllib.request.Request(address + path, json.dumps(body).encode() if body else None, headers)
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60)


def test_a_conversation_is_answered_in_pieces_with_a_token_and_refused_without(model: Path) -> None:
    asked = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "stream": True, "temperature": 0}
    with serving(Served(str(model), "mine", token="secret", context=256, threads=1)) as running:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            _ask(running.address, "/v1/chat/completions", asked)
        answer = _ask(running.address, "/v1/chat/completions", asked, "secret")
        lines = [line[6:] for line in answer.read().decode().splitlines() if line.startswith("data: ")]
        assert lines[-1] == "[DONE]" and len(lines) >= 4
        assert json.loads(lines[0])["model"] == "mine"
        models = _ask(running.address, "/v1/models", token="secret", origin="http://elsewhere.example")
        assert models.headers.get("Access-Control-Allow-Origin") not in ("*", "http://elsewhere.example")
        assert running.address.startswith("http://127.0.0.1:")
    assert not psutil.pid_exists(running.process.pid)


def test_an_address_that_others_reach_wants_a_token(model: Path) -> None:
    with pytest.raises(BadInput, match="there is no token"), serving(Served(str(model), "m", host="0.0.0.0")):
        pass


def test_a_port_that_is_taken_is_told(model: Path) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = Served(str(model), "m", port=other.getsockname()[1])
        with pytest.raises(BadInput, match="can't be listened on"), serving(taken):
            pass


def test_a_file_that_llama_cpp_does_not_open_is_told_in_its_words(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(BadInput, match="did not open it"), serving(Served(str(tmp_path / "broken.gguf"), "m")):
        pass
