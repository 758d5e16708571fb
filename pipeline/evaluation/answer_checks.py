"""Curated prompts, and why an answer to one is unreasonable.

The reasons are rules that a person can check by looking: the same answer always gets the same verdict. They find a model that
is broken (no answer, loops, noise, the prompt repeated, markers of the chat template), not one that is wrong: only what the line
of a prompt asks for (`prompt_checks`) is about facts. An answer that was cut off at its greatest length is not unreasonable for
that.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.config.file import find_file
from pipeline.dataset.readers.file_check import require_readable
from pipeline.dataset.readers.reader import RawRow
from pipeline.dataset.readers.registry import reader_of
from pipeline.evaluation.function_words import FUNCTION_WORDS
from pipeline.evaluation.prompt_checks import BY_KEY, CHECKS
from pipeline.evaluation.prompt_checks import folded as _folded

_MOST_PROMPTS = 1000


@dataclass(frozen=True)
class CuratedPrompt:
    """A prompt both models answer. `checks`: key and value of what its line asks of the answer (`prompt_checks`)."""

    prompt: str
    checks: tuple[tuple[str, Any], ...] = ()


def find_prompts(path: str, root: Path) -> Path:
    """The curated prompts' file: below `root`, else the shipped one of that name.

    Args:
        path: `eval.curated_prompts_path`, absolute or below `root`.
        root: the workspace.

    Raises:
        BadInput: there is none.
    """
    found = find_file(path, root)
    if found is None:
        raise BadInput(
            f"eval.curated_prompts_path: no file {path}", 'it is JSONL, a line such as {"prompt": "What is overfitting?"}'
        )
    return found


def read_prompts(file: Path) -> list[CuratedPrompt]:
    """Every prompt of the JSONL `file`, in order; empty lines are skipped.

    Raises:
        BadInput: unreadable lines, the first 20 named with their numbers.
    """
    require_readable(file, "eval.curated_prompts_path")
    prompts, problems, reader = list[CuratedPrompt](), list[str](), reader_of(file)
    try:
        for raw in reader.rows(file):
            try:
                prompts.append(_prompt(raw))
            except ValueError as error:
                problems.append(f"{raw.where(reader.unit)}: {error}")
            if len(prompts) + len(problems) > _MOST_PROMPTS:
                problems.append(f"at most {_MOST_PROMPTS} prompts are answered, there are more")
                break
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror or error}") from error
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems[:20])
        raise BadInput(f"{file}: {len(problems)} unreadable\n{listed}", 'a line is {"prompt": "…", "must_mention": ["…"]}')
    return prompts


def _prompt(raw: RawRow) -> CuratedPrompt:
    row = raw.row
    if raw.problem:
        raise ValueError(raw.problem)
    if not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        raise ValueError('no "prompt" with text in it')
    if unknown := sorted(row.keys() - {"prompt", *BY_KEY}):
        raise ValueError(f"unknown key {unknown[0]!r}; known are prompt, {', '.join(BY_KEY)}")
    checks = []
    for check in CHECKS:
        if check.key in row:
            try:
                checks.append((check.key, check.read(row[check.key])))
            except ValueError as problem:
                raise ValueError(f'"{check.key}" {problem}') from None
    return CuratedPrompt(row["prompt"], tuple(checks))


# ------------------------------------------------------------------------------------------------- the rules


def reasons_for_all(prompts: Sequence[CuratedPrompt], answers: Sequence[str]) -> list[tuple[str, ...]]:
    """`reasons_unreasonable` of each answer; besides, one answer to everything is no answer.

    Args:
        prompts, answers: as many of either, in the same order.
    """
    folded = [_folded(answer) for answer in answers]
    asked: dict[str, set[str]] = {}
    for prompt, answer in zip(prompts, folded, strict=True):
        asked.setdefault(answer, set()).add(_folded(prompt.prompt))
    result = []
    for prompt, answer, key in zip(prompts, answers, folded, strict=True):
        reasons = reasons_unreasonable(prompt, answer)
        # A label ("very positive review") may well be the answer to several, a sentence is not; nothing is the answer to all.
        if len(asked[key]) > 2 and len(_words(key)) > (2 if len(asked) == 1 else _LONGEST_LABEL):
            reasons += (f"{len(asked[key]) - 1} other prompts get the same answer",)
        result.append(reasons)
    return result


def reasons_unreasonable(prompt: CuratedPrompt, answer: str) -> tuple[str, ...]:
    """Why `answer` is no reasonable one to `prompt`; empty when nothing speaks against it.

    Where the prompt's line says how an answer has to look, the rules for prose don't.
    """
    text = answer.rstrip("�").strip()  # a character cut in half by the limit is no fault
    if not text:
        return ("it is empty",)
    asked = [(BY_KEY[key], value) for key, value in prompt.checks]
    rules = _rules(prompt.prompt, text) if not any(check.form for check, _ in asked) else (_markers(prompt.prompt, text),)
    return tuple(filter(None, (*rules, *(check.fault(value, text) for check, value in asked))))


def _rules(prompt: str, text: str) -> tuple[str, ...]:
    if not any(character.isalnum() for character in text):
        return (_loop(text),) if _is_sign(text) else ("it has no words",)
    rules = (_markers(prompt, text), _echo(prompt, text), _loop(text))
    return rules if _is_code(text) else (*rules, _noise(text), _no_language(text))


def _is_sign(text: str) -> bool:
    """An emoji, a symbol, Morse code: an answer without a letter."""
    return any(unicodedata.category(c) in ("So", "Sm", "Sc") for c in text) or bool(
        re.fullmatch(r"(?=.*\.)(?=.*-)[.\-/ ]+", text)
    )


_CODE = re.compile(
    r"""\w\([^()\n]*\)\s*[;{.:)]|\w\s*(?:[+*-]?=|:=|=>|->)\s*[\w"'\[({&*]|[;{}]\s*(?:\n|$)|</\w+>
    |^\s*(?:def|class|import|from|return|public|private|func|fn|let|const|var|if|for|while|using|package|\#include|SELECT)\b""",
    re.MULTILINE | re.VERBOSE,
)


def _is_code(text: str) -> bool:
    """A program without a fence: calls, assignments and ends of statements, close together."""
    found = len(_CODE.findall(text))
    return found >= 3 and found * 60 >= len(text) and sum(text.count(sign) for sign in "(){}[];=<>") * 25 >= len(text)


_LONGEST_LABEL = 6  # words


_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")


def _words(text: str) -> list[str]:
    """Lower-case words; a hyphen or an apostrophe inside belongs to its word."""
    return _WORD.findall(_without_marks(_folded(text)))


def _without_marks(text: str) -> str:
    """Without vowel signs and accents that are characters of their own, as in Devanagari and Thai: they belong to a letter."""
    return "".join(c for c in text if c.isascii() or unicodedata.category(c)[0] != "M")


_MARKER = re.compile(
    r"<\|[A-Za-z_0-9]{2,24}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<unk>|\[(?:PAD|UNK|CLS|SEP)\]"
    r"|^\s*#{2,3} ?(?:Instruction|Response|Human|Assistant):",
    re.MULTILINE,
)


def _markers(prompt: str, text: str) -> str:
    found = next((hit.group().strip() for hit in _MARKER.finditer(text) if hit.group() not in prompt), None)
    return f"it contains the template marker {found}" if found else ""


_LONG_QUOTE = 8  # words: shorter pieces of a prompt are legitimate answers ("a fruit")
_LEAD = 4  # words: "You said:" before the prompt is no content of one's own


def _echo(prompt: str, text: str) -> str:
    """The prompt repeated, whole or in a long piece, with nothing after it."""
    asked, answered = _words(prompt), _words(text)
    reason = "it only repeats the prompt"
    if len(asked) < 2 or not answered:
        return ""
    joined_prompt, joined = f" {' '.join(asked)} ", f" {' '.join(answered)} "
    if joined.rstrip() in joined_prompt:  # its last word may be cut off
        return reason if len(answered) >= min(_LONG_QUOTE, max(2, 0.7 * len(asked))) else ""
    if joined_prompt not in joined:
        return ""
    lead, *_, rest = joined.split(joined_prompt.rstrip())
    own = [word for word in rest.split() if word not in asked]
    return reason if not own and len(lead.split()) <= _LEAD else ""


_LEAST_WORDS = 10  # for any rule about shares of words
_REPEATS = 3
_MOST_OF_A_WORD = 0.3  # of all words
_MOST_OF_AN_ARTICLE = 0.5  # "a friend is a human being, a person, a group": one or two letters
_LOOP_WORDS = 9  # a loop has to be at least this long in all, so that "no, no, no" is not one


def _loop(text: str) -> str:
    """Words, lines or characters over and over."""
    if run := re.search(r"(\w)\1{11,}", text):
        return f"it repeats the character {run.group(1)!r}"
    symbols = re.finditer(r"([^\w\s])\1{5,}", text)
    if symbol := next((each.group(1) for each in symbols if unicodedata.category(each.group(1)) == "So"), ""):
        return f"it repeats the character {symbol!r}"
    lines = Counter(_folded(line) for line in text.splitlines() if len(_words(line)) >= 2)
    if lines:
        line, count = lines.most_common(1)[0]
        if count >= _REPEATS and count * 2 >= sum(lines.values()):
            return f"it repeats the line {_short(line)!r}"
    words = _words(_without_code(text))
    for period in range(1, len(words) // _REPEATS + 1):
        longest = _longest_period(words, period)
        if longest >= max(_LOOP_WORDS, _REPEATS * period):
            start = _start_of_period(words, period, longest)
            return f"it repeats {_short(' '.join(words[start : start + period]))!r}"
    if len(words) >= _LEAST_WORDS:
        word, count = Counter(words).most_common(1)[0]
        if count > (_MOST_OF_A_WORD if len(word) > 2 else _MOST_OF_AN_ARTICLE) * len(words):
            return f"{count} of {len(words)} words are {_short(word, 20)!r}"
    if len(text) >= 40 and " " not in text and (loop := re.search(r"(.{2,12}?)\1{4,}", text)):
        return f"it repeats {loop.group(1)!r}"
    return ""


def _periods(words: Sequence[str], period: int) -> Iterable[tuple[int, int]]:
    """(length, start) of the stretches in which each word is the one `period` before."""
    start = 0
    for i in range(period, len(words) + 1):
        if i == len(words) or words[i] != words[i - period]:
            yield i - start, start
            start = i - period + 1


def _longest_period(words: Sequence[str], period: int) -> int:
    return max(_periods(words, period))[0]


def _start_of_period(words: Sequence[str], period: int, length: int) -> int:
    return next(start for each, start in _periods(words, period) if each == length)


def _noise(text: str) -> str:
    """Characters and words that no language or program is written in."""
    bare = [character for character in text if not character.isspace()]
    strange = [c for c in bare if c == "�" or unicodedata.category(c) in ("Cc", "Cn", "Co", "Cs")]
    if len(strange) >= 2 and len(strange) * 50 >= len(bare):
        return f"{len(strange)} characters that cannot be read"
    undrawn = [c for c in bare if c not in "|-=_*#~`+"]  # without the lines of tables and headings
    if len(undrawn) >= 20 and sum(c.isalnum() or unicodedata.category(c)[0] == "M" for c in undrawn) < 0.4 * len(undrawn):
        return "mostly signs, hardly a letter"
    if hit := _LONG_RUN.search(text):
        return (
            f"{len(hit.group())} times the sign {hit.group()[0]!r} in a row" if hit.group().strip() else "a page of blank lines"
        )
    prose = _without_code(text)
    latin = [word for word in re.findall(r"[^\W\d_]+", prose) if _is_latin(word)]
    longest = max(latin, key=len, default="")
    # A language that joins words joins them in small letters, and among function words.
    joined = longest[1:].islower() and _function_words(latin) >= _LOW_SHARE * len(latin)
    if len(longest) > 45 and not joined:
        return f"a word of {len(longest)} letters"
    words = [word for word in prose.split() if any(c.isalpha() for c in word)]
    letters = [c for c in prose if c.isalpha()]
    # Where another script is written, Latin names stand in the middle of its words.
    other_script = sum("LATIN" not in unicodedata.name(c, "") for c in letters) * 2 > len(letters)
    odd = [word for word in words if _is_odd(word, may_mix=other_script)]
    if len(odd) >= 3 and len(odd) >= 0.12 * len(words):
        return f"{len(odd)} of {len(words)} words are broken ({', '.join(_short(word, 20) for word in odd[:3])})"
    return ""


def _without_code(text: str) -> str:
    """Without code blocks (an open one too), code spans, tags and addresses: their words follow other rules."""
    return re.sub(r"```.*?(?:```|\Z)|`[^`\n]*`|</?[A-Za-z!][^<>\n]{0,80}>|\S*(?:://|@|www\.)\S*", " ", text, flags=re.DOTALL)


def _is_latin(word: str) -> bool:
    return all("LATIN" in unicodedata.name(c, "") for c in word)


# Signs that people do draw lines with are left out: - = _ . * # ~ | + and their like.
_LONG_RUN = re.compile(r"""([,;:!?'"()\[\]{}<>/\\&%$@^])\1{5,}|\n(?:\s*\n){6,}""")
# YouTube, JavaScript and PostgreSQL are words; what is glued together is longer.
_CAPITAL_INSIDE = re.compile(r"(?=[^\W\d_]{12})[^\W\d_]*[^\W\d_A-Z][A-Z]")
_SIGN_INSIDE = re.compile(r"""[^\W\d_][^\w\s'’.,:;/&·()\-–—][^\W\d_]|[])}"'=<>|^,:;?]{4,}|[])}][])}"'|.,^=]+[^\W_]""")


def _is_odd(word: str, *, may_mix: bool = False) -> bool:
    """Two scripts in one word (unless they may), a capital after a small letter, or a sign between letters of neither."""
    scripts = {unicodedata.name(c, "?").split()[0] for c in word if c.isalpha() and not c.isascii()}
    mixed = bool(scripts & {"CYRILLIC", "CJK", "ARABIC", "HEBREW", "HANGUL", "HIRAGANA", "KATAKANA", "THAI", "DEVANAGARI"})
    if mixed and not may_mix and re.search("[A-Za-z]", word):
        return True
    bare = _without_marks(word)
    return bool(_CAPITAL_INSIDE.search(bare) or _SIGN_INSIDE.search(bare))


_LEAST_PROSE = 12  # words
_PROSE_WORDS = 5  # shorter stretches are items of a list
# Function words among all words.
_LEAST_SHARE = 0.12
_LOW_SHARE = 0.24  # the lowest of good answers, and those have no word that is broken
_MOST_SHARE = 0.75
_LEAST_CROWD = 18  # "It was a sunny day and all was as it should be. The birds were" is cut off, not broken
_LONGEST_MEAN = 10.0  # letters: English prose has about 5, Finnish 8


def _no_language(text: str) -> str:
    """Words of which hardly one, or nearly every one, is a function word; or words that are far too long.

    Real words drawn at random have next to no function words ("trillion sustain California subsidies coop"), a model whose layers
    are out of order says little else ("and or in and"); English prose has 30 to 60 %. Only words in Latin letters count; for too
    few function words only stretches that are too long to be items of a list. Words drawn by a hot sampler lie in between: where
    function words are few, one broken word tells them.
    """
    letters = [word for word in re.findall(r"[^\W\d_]+", _without_code(text)) if _is_latin(word)]
    if len(letters) >= _LEAST_WORDS:
        mean = sum(map(len, letters)) / len(letters)
        if mean > _LONGEST_MEAN:
            return f"no language: words of {mean:.0f} letters on average"
        if len(letters) >= _LEAST_CROWD and (known := _function_words(letters)) > _MOST_SHARE * len(letters):
            return f"no language: {known} function words among {len(letters)}"
    stretches = [re.findall(r"[^\W\d_]+", piece) for piece in re.split(r"[.,:;!?()\n•|=]+", _without_code(text))]
    words = [word for piece in stretches if len(piece) >= _PROSE_WORDS for word in piece if _is_latin(word)]
    if len(words) < _LEAST_PROSE or (known := _function_words(words)) >= _LOW_SHARE * len(words):
        return ""
    broken = "" if known < _LEAST_SHARE * len(words) else next(filter(_is_odd, _without_code(text).split()), None)
    if broken is None:
        return ""
    also = f" and {_short(broken, 20)!r}" if broken else ""
    return f"no language: {known} function words among {len(words)}{also}"


def _function_words(words: Sequence[str]) -> int:
    """How many of `words` are function words, in the language that has most of them."""
    return max(sum(word.casefold() in known for word in words) for known in FUNCTION_WORDS.values())


def _short(text: str, most: int = 40) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
