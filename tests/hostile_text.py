"""Text that takes over a careless terminal or is read as markup, put wherever a person's data can stand."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from pipeline.runs.folders import RunFolder

# What each would do: fill the clipboard, rename the window, clear the screen, a hyperlink, colour through C1, a command through
# C1 (OSC, DCS), report back as if typed, reorder text, end the line.
SEQUENCES: dict[str, str] = {
    "clipboard": "\x1b]52;c;T1dORUQ=\x07",
    "title": "\x1b]0;OWNED\x07",
    "clear": "\x1b[2J\x1b[H",
    "link": "\x1b]8;;http://owned.example\x1b\\click\x1b]8;;\x1b\\",
    "C1 colour": "\x9b31m",
    "C1 command": "\x9d0;OWNED\x9c \x90q\x9c",
    "report": "\x1b[6n\x05",
    "bidi": "\u202egpj.exe\u2066\u200f",
    "lines": "\x85\u2028\x0b\x0c\x08",
    "half a character": "\ud83d",
    "markup": "[bold red]loud[/]",
    "markup that acts": "[@click=app.quit]quit[/]",
    "markup that links": "[link='http://owned.example']x[/link]",
    "names": ":boom: $warning",
}
EVIL = "".join(SEQUENCES.values())
EVIL_TEXT = EVIL.replace("\ud83d", "")  # what a setting can hold: no half characters
EVIL_NAME = "x" + EVIL_TEXT.replace("/", "")[:120]  # what a file name can hold

_KEPT = {"kind", "step", "outcome", "level", "verdict", "mode", "unit", "split", "quantity", "format", "precision_mode", "ended"}


def control_characters(shown: str) -> set[str]:
    """What a terminal would act on, or be confused by, line ends and tabs aside."""
    bad = {"\u200e", "\u200f", "\u061c", "\u2028", "\u2029", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
    return {c for c in shown if (unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t") or c in bad}


def poison(run: RunFolder) -> RunFolder:
    """The run with `EVIL` at the end of every free text of its log, its reports and its config, and in what libraries printed."""
    lines = [json.loads(line) for line in run.events.read_bytes().splitlines()]
    run.events.write_text("".join(json.dumps(_poisoned(line)) + "\n" for line in lines), encoding="utf-8")
    config = json.loads(run.config.read_text(encoding="utf-8"))
    config["model"]["local_path"] = config["data"]["raw_path"] = EVIL_TEXT
    run.config.write_text(json.dumps(config), encoding="utf-8")
    with run.output_log.open("a", encoding="utf-8", errors="surrogatepass") as log:
        log.write(f"a library says {EVIL}\nand\r{EVIL}\r\n")
    return run


def _poisoned(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _poisoned(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_poisoned(each, key) for each in value]
    return value + EVIL if isinstance(value, str) and key not in _KEPT else value
