"""What a person may ask of the answer to a prompt, beside its text in the prompts file: a key of the line each."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PromptCheck:
    """A key of a prompt's line.

    Attributes:
        asks: what it asks for, for the documentation.
        read: its value checked; raises ValueError with what it has to be.
        fault: why an answer does not meet the value; empty where it does.
        form: whether it says how the answer has to look: then the rules for prose don't.
    """

    key: str
    asks: str
    read: Callable[[Any], Any]
    fault: Callable[[Any, str], str]
    form: bool = False


def folded(text: str) -> str:
    """For comparing: one form of each character, no case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        raise ValueError("is a list of texts")
    return tuple(value)


def _text_or_texts(value: Any) -> tuple[str, ...]:
    try:
        return _texts([value] if isinstance(value, str) else value)
    except ValueError:
        raise ValueError("is a text or a list of texts") from None


def _pattern(value: Any) -> str:
    try:
        re.compile(value)
    except (re.error, TypeError) as error:
        raise ValueError(f"is a regular expression ({error})") from None
    return str(value)


def _keys(value: Any) -> tuple[str, ...]:
    """Of `true` none: any JSON will do."""
    if value is True:
        return ()
    try:
        return _texts(value)
    except ValueError:
        raise ValueError("is true or a list of keys") from None


def _mentions_none(texts: tuple[str, ...], answer: str) -> str:
    found = folded(answer)
    missing = texts and not any(folded(text) in found for text in texts)
    return "it mentions none of: " + ", ".join(texts) if missing else ""


def _mentions(texts: tuple[str, ...], answer: str) -> str:
    found = folded(answer)
    return next((f"it mentions {text!r}" for text in texts if folded(text) in found), "")


def _matches_not(pattern: str, answer: str) -> str:
    return "" if re.search(pattern, answer.strip()) else f"it does not match {pattern}"


def _equals_none(texts: tuple[str, ...], answer: str) -> str:
    found = _bare(answer)
    return "" if any(found == _bare(text) for text in texts) else "it is not " + " or ".join(map(repr, texts))


def _bare(text: str) -> str:
    """Without the marks around a label: `"Positive".` is `positive`."""
    return folded(text).strip(" .!*\"'`")


def _count(value: Any) -> tuple[int, int]:
    """Least and most, of a number or two."""
    least, most = value if isinstance(value, list) and len(value) == 2 else (value, value)
    if not all(type(number) is int for number in (least, most)) or not 0 < least <= most:
        raise ValueError("is a whole number above 0, or the least and the most of it")
    return least, most


def _miscounted(counted: Callable[[str], int], what: str) -> Callable[[tuple[int, int], str], str]:
    def fault(bounds: tuple[int, int], answer: str) -> str:
        least, most = bounds
        found = counted(answer)
        wanted = f"{least}" if least == most else f"{least} to {most}"
        return "" if least <= found <= most else f"it has {found} {what}, not {wanted}"

    return fault


def _words(answer: str) -> int:
    return sum(any(character.isalnum() for character in word) for word in answer.split())


def _lines(answer: str) -> int:
    return sum(bool(line.strip()) for line in answer.splitlines())


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("is a number")
    return float(value)


_NUMBER = re.compile(r"(?<![\w.])[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")


def _another_number(wanted: float, answer: str) -> str:
    found = _NUMBER.findall(answer)
    if not found:
        return "it has no number"
    last = float(found[-1].replace(",", "").replace("−", "-"))
    return "" if abs(last - wanted) <= 1e-9 * max(1.0, abs(wanted)) else f"its last number is {found[-1]}, not {wanted:g}"


_FENCED = re.compile(r"\A```\w*\s*\n(.*?)\n?```\Z", re.DOTALL)


def _as_json(answer: str) -> Any:
    """What the answer says, in a fence or without. Raises ValueError."""
    text = answer.strip()
    fenced = _FENCED.match(text)
    try:
        return json.loads(fenced.group(1) if fenced else text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _no_json(keys: tuple[str, ...], answer: str) -> str:
    try:
        value = _as_json(answer)
    except ValueError:
        return "it is no JSON"
    missing = [key for key in keys if not isinstance(value, dict) or key not in value]
    return f"its JSON has no {missing[0]!r}" if missing else ""


def _any_json(value: Any) -> Any:
    return value


def _other_json(wanted: Any, answer: str) -> str:
    try:
        value = _as_json(answer)
    except ValueError:
        return "it is no JSON"
    return "" if _plain(value) == _plain(wanted) else f"its JSON is not {json.dumps(wanted, ensure_ascii=False)}"


def _plain(value: Any) -> Any:
    """For comparing: texts whatever their case, truth values told from numbers, 3 and 3.0 alike."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return ("truth", value) if isinstance(value, bool) else folded(value) if isinstance(value, str) else value


CHECKS = (
    PromptCheck("must_mention", "one of these texts occurs in the answer, whatever the case", _texts, _mentions_none),
    PromptCheck("must_not_mention", "none of these texts occurs in it", _texts, _mentions),
    PromptCheck("regex", "this regular expression is found in it", _pattern, _matches_not, form=True),
    PromptCheck("json", "it is JSON (`true`), or a JSON object with these keys", _keys, _no_json, form=True),
    PromptCheck(
        "equals", "it is this text or one of these, whatever case and full stop", _text_or_texts, _equals_none, form=True
    ),
    PromptCheck(
        "words",
        "it has so many words, or from the least to the most of `[least, most]`",
        _count,
        _miscounted(_words, "words"),
        form=True,
    ),
    PromptCheck(
        "lines",
        "it has so many lines with something in them, or from the least to the most",
        _count,
        _miscounted(_lines, "lines"),
        form=True,
    ),
    PromptCheck("number", "the last number in it is this one", _number, _another_number, form=True),
    PromptCheck("json_is", "it is JSON that says this, whatever the case of its texts", _any_json, _other_json, form=True),
)
BY_KEY = {check.key: check for check in CHECKS}


def markdown_table() -> str:
    """The checks for the documentation."""
    rows = [f"| `{check.key}` | {check.asks} |" for check in CHECKS]
    return "\n".join(["| key | asks that |", "| --- | --- |", *rows]) + "\n"
