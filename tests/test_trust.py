"""What people trust without looking: no token is written anywhere, nothing goes over the network, a run is its owner's, and it
says what it was made with. One whole run with secrets planted in its environment, every network call of its processes traced."""

from __future__ import annotations

import json
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.runs import provenance, store
from pipeline.runs.folders import RunFolder, Workspace
from tests.conftest import chat_row, write_jsonl
from tests.faults.strace import needs_strace
from tests.pipeline.steps.hub import serving
from tests.processes import environment, humigence

SECRETS = {"HF_TOKEN": "hf_PlantedTokenThatNobodySees", "WANDB_API_KEY": "planted-key-0123456789"}
MIRROR_PASSWORD = "planted-word-in-a-url"
# Sockets of the machine itself (AF_UNIX, netlink) are no network.
_NETWORK = re.compile(r"(connect|bind|listen|sendto)\(.*sa_family=AF_INET6?,.*?sin6?_port=htons\((\d+)\).*?\"([\d.:a-f]+)\"")


@dataclass(frozen=True)
class Ran:
    """A finished run, what was printed, and which network calls were made: (call, address, port)."""

    folder: Path
    run: RunFolder
    printed: str
    calls: set[tuple[str, str, int]]


@pytest.fixture(scope="module")
def project(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trust")
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    rows = [chat_row(f"What comes after {a}?", f"After {a} comes {b}.") for a in numbers for b in numbers]
    write_jsonl(folder / "rows.jsonl", rows)
    document = {
        "project": "tiny",
        "seed": 7,
        "model": {"local_path": str(tiny_model)},
        "data": {"raw_path": "rows.jsonl", "max_seq_len": 64, "window_overlap": 8, "packing": False},
        "train": {"precision_mode": "qlora_nf4", "max_steps": 2, "micro_batch": 4, "tokens_per_step_target": 256},
        "eval": {"max_new_tokens": 4, "samples_per_eval": 0},
        "compute": {"gpu": "cpu"},
    }
    (folder / "mine.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def ran(project: Path) -> Iterator[Ran]:
    """All eight steps with NF4 weights, without HF_HUB_OFFLINE: being quiet must not depend on it."""
    changes = SECRETS | {"HF_ENDPOINT": f"http://name:{MIRROR_PASSWORD}@127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-P", "-m", "humigence_tui.cli.main", "pipeline", "--train", "--json", "--config", "mine.json"]
    done, calls = traced(command, project, changes)
    assert done.returncode in (0, 3), done.stderr
    yield Ran(project, store.find_run(Workspace(project)), done.stdout + done.stderr, calls)


def traced(
    command: list[str], folder: Path, changes: dict[str, str]
) -> tuple[subprocess.CompletedProcess[str], set[tuple[str, str, int]]]:
    """The command and the network calls of it and of every process it starts."""
    trace = folder / "trace.txt"
    watch = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,bind,listen,sendto", "-o", str(trace)]
    done = subprocess.run(
        [*watch, *command], cwd=folder, env=environment(**changes), capture_output=True, text=True, timeout=300, check=False
    )
    calls = {(found[1], found[3], int(found[2])) for found in _NETWORK.finditer(trace.read_text())}
    trace.unlink()
    return done, calls


@needs_strace
@pytest.mark.slow
def test_a_whole_run_opens_no_connection_and_listens_nowhere(ran: Ran) -> None:
    assert not ran.calls


_THE_APP_AND_A_CHAT = """
import asyncio
from pathlib import Path
from humigence_tui.app import HumigenceApp
from pipeline.runs.folders import Workspace

async def look(app):
    async with app.run_test(size=(120, 40)) as pilot:
        for screen in ("home", "wizard", "doctor", "chat"):
            app.open(screen)
            while not getattr(app.screen, "ready", False) or getattr(app.screen, "state", "ready") == "loading":
                await pilot.pause(0.05)
        assert app.screen.state == "ready", app.screen.trouble
        app.screen.longest = 4
        app.screen.query_one("#prompt").value = "Hello"
        await pilot.press("enter")
        while not app.screen.conversation.turns or app.screen.state == "answering":
            await pilot.pause(0.05)
        assert app.screen.conversation.turns[0].answers["tuned"].state == "done"

asyncio.run(look(HumigenceApp(Workspace(Path.cwd()), "home", {})))
"""


@needs_strace
@pytest.mark.slow
def test_the_app_and_the_process_of_a_chat_open_no_connection_and_listen_nowhere(ran: Ran) -> None:
    done, calls = traced([sys.executable, "-P", "-c", _THE_APP_AND_A_CHAT], ran.folder, {"HF_HUB_OFFLINE": "0"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert not calls


@needs_strace
@pytest.mark.slow
def test_a_download_speaks_to_the_hub_and_to_nobody_else(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "hub.json").write_text(json.dumps({"model": {"repo": "owner/name"}}))
    command = [sys.executable, "-P", "-m", "humigence_tui.cli.main", "model", "download", "--config", "hub.json"]
    with serving(tiny_model) as (address, _):
        port = int(address.rsplit(":", 1)[1])
        changes = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf")}
        offline, none = traced(command, tmp_path, changes | {"HF_HUB_OFFLINE": "1"})
        done, calls = traced(command, tmp_path, changes | {"HF_HUB_OFFLINE": "0"})
    assert done.returncode == 0, done.stderr
    assert {(call, host, to) for call, host, to in calls if call != "sendto"} == {("connect", "127.0.0.1", port)}
    assert offline.returncode == 5 and not none


@needs_strace
@pytest.mark.slow
def test_no_token_is_written_or_printed_anywhere(ran: Ran) -> None:
    planted = [secret.encode() for secret in (*SECRETS.values(), MIRROR_PASSWORD)]
    shown = humigence("runs", "show", "--json", cwd=ran.folder, **SECRETS).stdout
    assert not [secret for secret in planted if secret in (ran.printed + shown).encode()]
    for file in filter(Path.is_file, ran.folder.rglob("*")):
        content = file.read_bytes()
        assert not [secret for secret in planted if secret in content], file


@needs_strace
@pytest.mark.slow
def test_a_run_folder_is_its_owners(ran: Ran) -> None:
    assert stat.S_IMODE(ran.run.path.stat().st_mode) == 0o700


@needs_strace
@pytest.mark.slow
def test_a_run_says_what_it_was_made_with_and_its_card_does_too(ran: Ran) -> None:
    (start,) = provenance.starts(ran.run)
    assert start["command"].endswith("pipeline --train --json --config mine.json") and start["seed"] == 7 and start["trains"]
    assert start["packages"]["torch"] and start["python"] and start["device"].startswith("CPU")
    assert start["environment"]["HF_ENDPOINT"] == "http://[hidden]@127.0.0.1:9" and "HF_TOKEN" not in start["environment"]
    shown = humigence("runs", "show", cwd=ran.folder).stdout
    card = (ran.folder / "artifacts" / "tiny" / "model_card.md").read_text()
    for what in ("command", "versions", "device", "environment"):
        assert re.search(rf"^{what} ", shown, re.MULTILINE) and f"| {what} |" in card, what
    assert "| seed | 7 |" in card and re.search(r"^seed +7$", shown, re.MULTILINE)
    assert str(ran.folder) not in card, "a card is there to be published"


def test_a_test_that_would_speak_to_another_machine_is_stopped() -> None:
    with pytest.raises(PermissionError):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(PermissionError):
        socket.getaddrinfo("hub.example", 443)


def test_settings_are_shown_without_a_token_that_was_written_into_them(workspace: Path) -> None:
    token = "hf_PlantedTokenInASetting0"
    (workspace / "mine.json").write_text(json.dumps({"model": {"revision": token}}))
    with_config = ["--config", "mine.json"]
    for command in (["view"], ["view", "--json"], ["get", "model.revision"], ["get", "model"], ["set", "model.revision", "main"]):
        done = humigence("config", *command, *with_config, cwd=workspace)
        assert done.returncode == 0 and token not in done.stdout + done.stderr, command
    (workspace / "mine.json").write_text(json.dumps({"model": {"token": token}, "train": {"lr": token}}))
    # The system's own error names the path, and a traceback shows it.
    traced_back = humigence("config", "view", "--config", f"{token}{'x' * 300}", "--debug", cwd=workspace)
    assert "Errno 36" in traced_back.stderr and token not in traced_back.stdout + traced_back.stderr
    wrong = humigence("config", "view", *with_config, cwd=workspace)
    assert wrong.returncode == 2 and "model.token" in wrong.stderr and token not in wrong.stderr
