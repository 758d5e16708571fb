"""What a logout does to a training. systemd can be configured to end what a person leaves running (`KillUserProcesses=yes`).

A process lives in the scope of the login session, which such a system ends with everything in it; or below the user's own manager
(`user@1000.service`), which ends with the last session unless the user lingers; or in neither, where no logout reaches it.
Source: logind.conf(5), loginctl(1), systemd-run(1).
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Fate = Literal["stays", "scope", "ends"]
"""Of what is started now: it stays; it stays in a scope of its own; it ends with the login."""

KEEP = "loginctl enable-linger"
_MANAGER = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
_ASK_S = 5.0  # longest wait for an answer of systemd's


@dataclass(frozen=True)
class Login:
    """What decides.

    Attributes:
        cgroup: /proc/self/cgroup.
        kill: KillUserProcesses, KillExcludeUsers and KillOnlyUsers as busctl prints them; empty where nobody answers.
        user: name of the account.
        lingers: the user's manager runs without a session.
    """

    cgroup: str
    kill: str
    user: str
    lingers: bool


def fate(login: Login | None = None) -> Fate:
    """What becomes of a process started now by this one when the person logs out."""
    login = this_login() if login is None else login
    if _in_manager(login.cgroup):
        return "stays" if login.lingers else "ends"
    if not _in_session(login.cgroup) or not _kills(login.kill, login.user):
        return "stays"
    return "scope" if login.lingers else "ends"


def warning(login: Login | None = None) -> str:
    """What a person should know before they log out, with what to do; empty where a training stays."""
    if fate(login) != "ends":
        return ""
    return (
        f"this system ends your processes when you log out, and this training with them; {KEEP} keeps them from the next start on"
    )


def own_scope(login: Login | None = None) -> list[str]:
    """What to put before a command so that it outlives the login; empty where nothing is needed, or nothing helps."""
    if fate(login) != "scope" or shutil.which("systemd-run") is None:
        return []
    return ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--"]


def this_login() -> Login:
    """As it is for this process. Asks systemd only where its answer matters: in the scope of a session."""
    cgroup = _text(Path("/proc/self/cgroup"))
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's number without a name
        user = str(os.getuid())
    kill = _asked() if _in_session(cgroup) else ""
    return Login(cgroup, kill, user, (Path("/var/lib/systemd/linger") / user).exists())


def kills_at_logout() -> bool | None:
    """Whether this system ends what this user leaves running, wherever this process lives; None where nobody says."""
    answer = _asked()
    known = answer.startswith(("b true", "b false"))
    return _kills(answer, this_login().user) if known else None


def _in_session(cgroup: str) -> bool:
    return re.search(r"/session-[^/\n]+\.scope", cgroup) is not None


def _in_manager(cgroup: str) -> bool:
    return re.search(r"/user@\d+\.service", cgroup) is not None


def _kills(kill: str, user: str) -> bool:
    """Whether logind ends this user's processes. `only` names whom it is about, where it names anybody; `excluded` are spared."""
    yes, excluded, only, *_ = [*kill.splitlines(), "", "", ""]
    spared = user in re.findall(r'"([^"]*)"', excluded)
    named = re.findall(r'"([^"]*)"', only)
    return yes.strip() == "b true" and not spared and (not named or user in named)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _asked() -> str:
    """What systemd-logind answers, or "" where it does not."""
    command = ["busctl", "get-property", *_MANAGER, "KillUserProcesses", "KillExcludeUsers", "KillOnlyUsers"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
