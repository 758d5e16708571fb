"""A system that ends what a person leaves running: said where it is so, and got out of the way of where that is possible."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.config.schema import Config
from pipeline.runner import launch
from pipeline.runs import event_log, store
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.system import login_session
from pipeline.system.login_session import Fate, Login
from tests.faults.declared import survives
from tests.faults.workers import Project
from tests.waiting import in_time

_spawn = launch.spawn_worker  # the real one: for whole workers it is another
_SESSION = "0::/user.slice/user-1000.slice/session-3.scope\n"
_MANAGER = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope\n"
_ELSEWHERE = "0::/system.slice/docker-4f1c.scope\n"
_YES, _NO = 'b true\nas 1 "root"\nas 0\n', 'b false\nas 1 "root"\nas 0\n'
_CASES: list[tuple[str, str, bool, Fate]] = [
    (_SESSION, _NO, False, "stays"), (_SESSION, _YES, False, "ends"), (_SESSION, _YES, True, "scope"),
    (_SESSION, "", False, "stays"),
    (_SESSION, _YES.replace("root", "ann"), False, "stays"), (_SESSION, 'b true\nas 0\nas 1 "bob"\n', False, "stays"),
    (_SESSION, 'b true\nas 0\nas 1 "ann"\n', False, "ends"), (_MANAGER, "", False, "ends"), (_MANAGER, "", True, "stays"),
    (_ELSEWHERE, _YES, False, "stays"), ("", "", False, "stays"),
]  # fmt: skip


@survives(
    "machine",
    "a system that ends a user's processes at logout (`KillUserProcesses=yes`)",
    "in a login session, below the user's manager, in neither; lingering or not; the user excluded, named, or neither",
    "what a logout does is known without asking where it can't matter",
)
@pytest.mark.parametrize(("cgroup", "kill", "lingers", "expected"), _CASES)
def test_what_a_logout_does_is_known(cgroup: str, kill: str, lingers: bool, expected: Fate) -> None:
    login = Login(cgroup, kill, "ann", lingers)
    assert login_session.fate(login) == expected
    assert bool(login_session.warning(login)) == (expected == "ends")


@survives(
    "machine",
    "the same: a logout would end the training",
    "when a training starts",
    "the run says so in its log, with the command that keeps it",
)
def test_a_run_that_a_logout_would_end_says_so(project: Project) -> None:
    assert project.to_its_end({"login": [_SESSION, _YES, "ann", False]}, until="plan") == 0
    assert "when you log out" in project.notes() and "loginctl enable-linger" in project.notes()


@survives(
    "machine",
    "the same: a scope of its own is possible, or its maker fails",
    "when a training starts",
    "the worker starts inside of it, and without it where that fails",
)
@pytest.mark.parametrize("manager", ["answers", "is not there"])
def test_the_worker_is_started_in_a_scope_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manager: str) -> None:
    programs, used = tmp_path / "programs", tmp_path / "used"
    programs.mkdir()
    # As systemd-run does: becomes the command after `--`.
    becomes = f'#!/bin/sh\necho "$*" > {used}\nwhile [ "$1" != "--" ]; do shift; done\nshift\nexec "$@"\n'
    fails = f'#!/bin/sh\necho "$*" > {used}\necho "Failed to connect to bus" >&2\nexit 1\n'
    (programs / "systemd-run").write_text(becomes if manager == "answers" else fails)
    (programs / "systemd-run").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(login_session, "this_login", lambda: Login(_SESSION, _YES, "ann", lingers=True))
    workspace = Workspace(tmp_path / "work")
    run = _without_a_model(workspace)
    _spawn(workspace, run)
    for _ in in_time(event_log.follow(run, every_s=0.02)):
        pass
    assert "--user --scope" in used.read_text()
    state = event_log.read_state(run)
    assert state.attempt == 1 and state.status == "failed", "the worker worked: there is no data file"


def _without_a_model(workspace: Workspace) -> RunFolder:
    from pipeline.common.files import write_json

    run = store.create(workspace, Config(project="demo"), {})
    write_json(run.path / "request.json", {"train": False, "until": "validate"})
    return run
