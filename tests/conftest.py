"""Shared fixtures. Tests run offline, on the CPU unless they are marked `gpu`, each in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tests import loaded, tiny

# What is stored of models for the next time: a folder of this session's own.
_CACHE = tempfile.TemporaryDirectory(prefix="humigence-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name
# How long an example takes depends on who else uses the machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def _only_this_machine(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: no test, and nothing a test calls, speaks to another machine. Other processes: `test_trust`."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in ("127.0.0.1", "::1", "localhost", None):
        raise PermissionError(f"a test wanted to speak to {host}")


sys.addaudithook(_only_this_machine)
# What a shell starts in the background ignores Ctrl-C, and so would all that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_teardown() -> None:
    loaded.set_aside()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with a Llama-2-like tokenizer and Zephyr's template. Read only."""
    return tiny.save_model(tmp_path_factory.mktemp("models") / "tiny-zephyr")


@pytest.fixture(scope="session")
def tiny_chatml_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with a byte-level tokenizer and ChatML. Read only."""
    return tiny.save_model(tmp_path_factory.mktemp("models") / "tiny-chatml", template=tiny.CHATML, llama=False)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """`rows` as a JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def chat_row(*turns: str) -> dict[str, Any]:
    """A `chat_messages` row: user and assistant in turn."""
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]}
