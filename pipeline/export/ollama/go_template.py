"""A table of what a chat template writes, in the language of Ollama's `TEMPLATE`: Go's text/template.

Ollama gives `.Messages` (each `.Role` and `.Content`; neighbours of one role are one message) and `.System`, every system message
together. Source: ollama, docs/template.md and template/template.go. A last message of the assistant's is gone on with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from pipeline.export.ollama.dialogue import NOBODY, ROLES, Dialogue

# What Go says where the model's own template refuses: a text that is called is an error, which shows the text.
_NO_ROLE = "the chat template of this model has no place for a message of this role"
_NO_ORDER = "the chat template of this model has no place for a message of this role here"
_NO_ANSWER = "the chat template of this model answers questions only"


def go_template(found: Dialogue) -> str:
    """The template's source."""
    at_last = found.after_system is not None
    counted = _do("$last := -1") + _do("range $i, $_ := .Messages") + _do("$last = $i") + _do("end") if at_last else ""
    cases = [(f'eq .Role "{role}"', _message(found, role)) for role in ROLES if not (at_last and role == "system")]
    cases += [('eq .Role "system"', "")] if at_last else []
    loop = _do("range $i, $_ := .Messages" if at_last else "range .Messages")
    return _do('$before := ""') + counted + loop + _cases([*cases, ("", _refusal(_NO_ROLE))]) + _do("end") + _ending(found)


def _message(found: Dialogue, role: str) -> str:
    """What is written of a message of `role`."""
    into = {last: text for (last, speaks), text in found.before.items() if speaks == role}
    if not into:
        return _refusal(_NO_ORDER)
    common = _common_end(list(into.values()))
    rests = {last: text[: len(text) - len(common)] for last, text in into.items()}
    system = ""
    if found.after_system is not None and role == "user":
        system = _do("if and $.System (eq $i $last)") + _do("$.System") + literal(found.after_system) + _do("end")
    return _by_last(rests, role, found) + literal(common) + system + _do(".Content") + _do(f'$before = "{role}"')


def _by_last(rests: Mapping[str, str], role: str, found: Dialogue) -> str:
    """What depends on who spoke before; those with the same text together."""
    possible = {NOBODY, *ROLES} - {role} - ({"system"} if found.after_system is not None else set())
    written = ""
    if not possible <= set(rests):
        written = _cases([(f"not ({_was(rests)})", _refusal(_NO_ORDER))])
    texts = [text for text in dict.fromkeys(rests.values()) if text]
    return written + _cases([(_was(last for last in rests if rests[last] == text), literal(text)) for text in texts])


def _was(roles: Iterable[str]) -> str:
    """Go's `eq` compares its first argument with each of the others."""
    return " ".join(["eq $before", *(f'"{role}"' for role in roles)])


def _ending(found: Dialogue) -> str:
    """What leads to the answer; nothing where the last message is the beginning of one."""
    cases = [(f'eq $before "{role}"', literal(text)) for role, text in found.after.items() if role != "assistant"]
    return _cases(cases if "system" in found.after else [*cases, ('eq $before "system"', _refusal(_NO_ANSWER))])


def _cases(cases: Sequence[tuple[str, str]]) -> str:
    """The first whose condition holds; an empty condition holds always."""
    if not cases:
        return ""
    written = ""
    for number, (condition, text) in enumerate(cases):
        written += _do(f"if {condition}" if not number else f"else if {condition}" if condition else "else") + text
    return written + _do("end")


def _refusal(why: str) -> str:
    return _do(f'call "{why}"')


def _do(action: str) -> str:
    return "{{ " + action + " }}"


def literal(text: str) -> str:
    """A text as it stands in the source; what Go or the reader of a Modelfile would take for its own is quoted."""
    plain = "{{" not in text and not text.endswith("{") and '"""' not in text and all(_stands(each) for each in text)
    return text if plain else _do(f'"{"".join(_quoted(each) for each in text)}"')


def _stands(character: str) -> bool:
    """The reader leaves out what can't be printed, and takes a carriage return for a line end."""
    return character in "\n " or (character.isprintable() and not character.isspace())


def _quoted(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if " " <= character <= "~":
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


def _common_end(texts: Sequence[str]) -> str:
    """What all end with, from the beginning of a header or a line on: a person reads this."""
    same = takewhile(lambda characters: len(set(characters)) == 1, zip(*(reversed(text) for text in texts), strict=False))
    common = "".join(characters[0] for characters in same)[::-1]
    if len(set(texts)) == 1:
        return common
    return common[min((place for each in "<[\n" if (place := common.find(each)) >= 0), default=len(common)) :]
