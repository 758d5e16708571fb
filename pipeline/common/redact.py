"""Tokens and keys stay out of whatever is written or shown: errors, events, logs, cards, `config view`.

Known are the values of the environment variables whose names say so (HF_TOKEN, WANDB_API_KEY, …), the forms tokens commonly
have, and what stands for a password in a URL, also in those of a proxy or a mirror that the environment names.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any, TextIO, cast
from urllib.parse import unquote

HIDDEN = "[hidden]"
_SECRET_NAME = re.compile(r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|KEY|CREDENTIALS)$", re.IGNORECASE)
_SHORTEST = 8  # a shorter value is a word that stands in innocent text
_LOGIN = re.compile(r"(?:\w+://)?([^/\s@:]+):([^/\s@]+)@[\w.-]+(?::\d+)?(?:/\S*)?$")
_FORMS = (
    r"(?<![A-Za-z0-9])(?:hf_|hf_oauth_|sk-|ghp_|gho_|github_pat_|glpat-)[A-Za-z0-9_.-]{12,}",
    r"(?<=://)[^/\s@\"'\\]+(?=@)",
    r"(?<=[Bb]earer )[\w.~+/=-]{8,}",
    r"(?:(?<=authorization: basic )|(?<=authorization': 'basic )|(?<=authorization\": \"basic ))[\w+/=-]+",
    r"(?<=[?&])((?:[\w-]*(?:token|key|secret|password|signature))|sig)=[^&\s\"'\\]+",
)


def is_secret(variable: str) -> bool:
    """Whether the name of an environment variable says that its value is a secret."""
    return _SECRET_NAME.search(variable) is not None


def redact(text: str) -> str:
    """`text` with `[hidden]` for each token, key and password in it."""
    return redactor()(text)


@functools.cache
def redactor() -> Callable[[str], str]:
    """The function, made once a process from the environment as it was then."""
    plain = {value for name, value in os.environ.items() if is_secret(name) and len(value) >= _SHORTEST}
    plain |= {each for value in os.environ.values() for each in _logins(value)}
    in_json = {json.dumps(value, ensure_ascii=ascii_only)[1:-1] for value in plain for ascii_only in (True, False)}
    values = plain | in_json
    pattern = re.compile("|".join([*map(re.escape, sorted(values, key=len, reverse=True)), *_FORMS]), re.IGNORECASE)
    return functools.partial(pattern.sub, _hidden)


def _logins(address: str) -> set[str]:
    """What must not be seen of `http://user:password@proxy:3128`, scheme or not: as it is written, and as a header sends it."""
    found = _LOGIN.match(address)
    if not found:
        return set()
    user, password = map(unquote, found.groups())
    sent = base64.b64encode(f"{user}:{password}".encode()).decode()
    long_enough = {each for each in (found[2], password) if len(each) >= _SHORTEST}
    return {f"{found[1]}:{found[2]}", f"{user}:{password}", sent} | long_enough


def _hidden(match: re.Match[str]) -> str:
    return f"{match[1]}={HIDDEN}" if match[1] else HIDDEN


def hide_in(*names: str) -> None:
    """From now on these of `sys` ("stdout", "stderr") redact what is written: the log lines and tracebacks of libraries too."""
    for name in names:
        setattr(sys, name, cast(TextIO, _Redacting(getattr(sys, name))))


class _Redacting:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(redact(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
