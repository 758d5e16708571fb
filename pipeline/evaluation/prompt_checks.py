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


_FENCED = re.compile(r"\A```\w*\s*\n(.*?)\n?```\Z", re.DOTALL)


def _no_json(keys: tuple[str, ...], answer: str) -> str:
    text = answer.strip()
    fenced = _FENCED.match(text)
    try:
        value = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError):
        return "it is no JSON"
    missing = [key for key in keys if not isinstance(value, dict) or key not in value]
    return f"its JSON has no {missing[0]!r}" if missing else ""


CHECKS = (
    PromptCheck("must_mention", "one of these texts occurs in the answer, whatever the case", _texts, _mentions_none),
    PromptCheck("must_not_mention", "none of these texts occurs in it", _texts, _mentions),
    PromptCheck("regex", "this regular expression is found in it", _pattern, _matches_not, form=True),
    PromptCheck("json", "it is JSON (`true`), or a JSON object with these keys", _keys, _no_json, form=True),
    PromptCheck(
        "equals", "it is this text or one of these, whatever case and full stop", _text_or_texts, _equals_none, form=True
    ),
)
BY_KEY = {check.key: check for check in CHECKS}


def markdown_table() -> str:
    """The checks for the documentation."""
    rows = [f"| `{check.key}` | {check.asks} |" for check in CHECKS]
    return "\n".join(["| key | asks that |", "| --- | --- |", *rows]) + "\n"
