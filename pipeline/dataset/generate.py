"""A small set of conversations, composed of facts: varied, true, and the same for the same seed.

The facts are in `data/topics/*.json`: tables of things with their properties, ways to ask for each and to answer, lists and
comparisons that follow from a table, and conversations written by hand. Each property of a thing is asked for in one conversation
only, so that a held-out row is never another wording of one that was trained on. Arithmetic and units are worked out (`sums`).

Chance comes from hashing the seed with what is to be chosen: the same on every machine and Python.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.config.file import shipped
from pipeline.config.schema import Topic
from pipeline.dataset import generated_arithmetic
from pipeline.dataset.generated_arithmetic import Draw, Turns
from pipeline.tokenization.messages import Message

Conversation = list[Message]

TERSE = "Answer with the bare fact, not with a sentence."
_WORKED_OUT: dict[Topic, tuple[str, Callable[[Draw], Turns]]] = {
    "arithmetic": ("sums with the way to the answer", generated_arithmetic.arithmetic),
    "units": ("measures in other units", generated_arithmetic.units),
}
_MOST_WORKED_OUT = 500
_LONGEST_BARE_FACT = 40
_IN_A_LIST = 3
_HAND_WRITTEN_SOONER = 4


def content(topics: Sequence[Topic], rows: int, seed: int) -> bytes:
    """A JSONL file of `rows` conversations, taken from the topics in turn.

    Raises:
        BadInput: the topics do not hold so many.
    """
    chosen = [iter(conversations(topic, seed)) for topic in dict.fromkeys(topics)]
    lines: list[str] = []
    while chosen and len(lines) < rows:
        for source in list(chosen):
            talk = next(source, None)
            if talk is None:
                chosen.remove(source)
            elif len(lines) < rows:
                lines.append(json.dumps({"messages": talk}, ensure_ascii=False) + "\n")
    if len(lines) < rows:
        message = f"data.generate.rows: {rows:,} rows are asked for and {', '.join(topics)} hold {len(lines):,}"
        raise BadInput(message, f"ask for at most {len(lines):,} rows, or for more topics")
    return "".join(lines).encode()


def about(topic: Topic) -> str:
    """What a topic is about, in a few words."""
    return _WORKED_OUT[topic][0] if topic in _WORKED_OUT else str(_facts(topic)["about"])


def conversations(topic: Topic, seed: int) -> list[Conversation]:
    """Every conversation of a topic, in the order of the seed."""
    chance = Chance(seed, topic)
    if topic in _WORKED_OUT:
        return [_plain(turns) for turns in _worked_out(_WORKED_OUT[topic][1], chance)]
    facts = _facts(topic)

    def place(talk: Conversation) -> int:
        return chance.number(" ".join(message["content"] for message in talk), 0, 1 << 32)

    # Those written by hand are the richest: they come sooner than one of a table.
    ranked = [(place(talk) // _HAND_WRITTEN_SOONER, talk) for talk in map(_plain, facts["talks"])]
    for number, table in enumerate(facts["tables"]):
        ranked += [(place(talk), talk) for talk in _Table(table, chance.of(number)).conversations()]
    return [talk for _, talk in sorted(ranked, key=lambda pair: pair[0])]


class Chance:
    """Choices that follow from the seed and from what they are about."""

    def __init__(self, *about: Any) -> None:
        self._about = about

    def of(self, *more: Any) -> Chance:
        return Chance(*self._about, *more)

    def digest(self, *what: Any) -> bytes:
        """To sort by."""
        text = json.dumps([*self._about, *what], ensure_ascii=False)
        return hashlib.blake2b(text.encode(), digest_size=8).digest()

    def number(self, what: str, least: int, most: int) -> int:
        """One of `least` … `most`."""
        return least + int.from_bytes(self.digest(what), "big") % (most - least + 1)

    def choice(self, options: Sequence[str], *what: Any) -> str:
        return options[int.from_bytes(self.digest("choice", *what), "big") % len(options)]

    def shuffled(self, things: Sequence[Any], *what: Any) -> list[Any]:
        return sorted(things, key=lambda thing: self.digest("shuffled", *what, thing))


@lru_cache(maxsize=16)
def _facts(topic: Topic) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(shipped(f"topics/{topic}.json").read_text(encoding="utf-8"))
    return facts


def _worked_out(make: Callable[[Draw], Turns], chance: Chance) -> Iterator[Turns]:
    asked: set[str] = set()
    for number in range(_MOST_WORKED_OUT):
        turns = make(chance.of(number).number)
        if turns[0] not in asked:
            asked.add(turns[0])
            yield turns


def _plain(turns: Sequence[str], system: str = "") -> Conversation:
    roles = ("user", "assistant")
    said = [Message(role=roles[number % 2], content=text) for number, text in enumerate(turns)]
    return [Message(role="system", content=system), *said] if system else said


# ------------------------------------------------------------------------------------------------------------ tables


class _Table:
    """Things in rows, their properties in columns; the first column names the thing."""

    def __init__(self, table: dict[str, Any], chance: Chance) -> None:
        self._table, self._chance = table, chance
        self._things = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
        self._name = table["columns"][0]

    def conversations(self) -> list[Conversation]:
        found = [talk for thing in self._things for talk in self._about(thing)]
        found += [_plain(turns) for turns in (*self._lists(), *self._compared())]
        return found

    def _about(self, thing: dict[str, Any]) -> Iterator[Conversation]:
        """Each known property of a thing once, sometimes two in one conversation."""
        name = thing[self._name]
        known = [ask for ask in self._table["asks"] if thing[ask["of"]] is not None]
        by_name = {ask["of"]: ask for ask in known}
        left = [by_name[of] for of in self._chance.shuffled(list(by_name), name)]
        while left:
            first = left.pop(0)
            turns = [self._said(first, "ask", thing), self._said(first, "answer", thing)]
            if left and left[0]["then"] and self._chance.number(f"two {name} {first['of']}", 0, 2) == 0:
                second = left.pop(0)
                turns += [self._said(second, "then", thing), self._said(second, "answer", thing)]
            elif self._is_bare(first, thing):
                yield _plain([turns[0], thing[first["of"]]], TERSE)
                continue
            yield _plain(turns)

    def _said(self, ask: dict[str, Any], what: str, thing: dict[str, Any]) -> str:
        return _sentence(self._chance.choice(ask[what], what, thing[self._name], ask["of"]), thing)

    def _is_bare(self, ask: dict[str, Any], thing: dict[str, Any]) -> bool:
        """One answer in six is the fact alone, as a system message asks, where the fact is short enough to stand alone."""
        fact = thing[ask["of"]]
        short = isinstance(fact, str) and len(fact) <= _LONGEST_BARE_FACT  # a number alone would lack its unit
        return short and self._chance.number(f"bare {thing[self._name]} {ask['of']}", 0, 5) == 0

    def _lists(self) -> Iterator[Turns]:
        for each in self._table.get("lists", ()):
            values = dict.fromkeys(thing[each["by"]] for thing in self._things if thing[each["by"]] is not None)
            for value in values:
                names = [thing[each["item"]] for thing in self._things if thing[each["by"]] == value]
                if len(names) < _IN_A_LIST:
                    continue
                *most, last = self._chance.shuffled(names, "list", value)[:_IN_A_LIST]
                words = {"value": value, "items": f"{', '.join(most)} and {last}"}
                yield [_sentence(self._chance.choice(each["ask"], "list", value), words), _sentence(each["answer"], words)]

    def _compared(self) -> Iterator[Turns]:
        for each in self._table.get("compares", ()):
            things = {thing[each["item"]]: thing[each["by"]] for thing in self._things if thing[each["by"]] is not None}
            for a, b in pairwise(self._chance.shuffled(list(things), "compare")):
                if things[a] == things[b]:
                    continue
                less, more = sorted((a, b), key=lambda name: things[name])
                words = {"a": a, "b": b, "more": more, "less": less, "more_value": things[more], "less_value": things[less]}
                texts = (self._chance.choice(each[part], "compare", a, b) for part in ("ask", "answer"))
                yield [_sentence(text, words) for text in texts]


def _sentence(text: str, fields: dict[str, Any]) -> str:
    return text.format_map(_Words((name, _written(value)) for name, value in fields.items()))


class _Words(dict[str, str]):
    """Fields of a sentence: `{animal}`, `{Animal}` with a capital, `{a_animal}` with its article."""

    def __missing__(self, key: str) -> str:
        if key[0].isupper():
            text = self[key[0].lower() + key[1:]]
            return text[:1].upper() + text[1:]
        if key.startswith("a_"):
            text = self[key.removeprefix("a_")]
            return f"{'an' if text[0].lower() in 'aeiou' else 'a'} {text}"
        raise KeyError(key)


def _written(value: Any) -> str:
    """A number as it is read: years and heights without a comma, hundreds of thousands with."""
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
