"""No error can be missing from the catalogue, and nothing in it is invented."""

from __future__ import annotations

import ast

import pytest

from pipeline.troubleshooting.catalogue import TROUBLES, find_trouble
from pipeline.troubleshooting.trouble import ANY
from tests.raised import error_classes, raised, raised_by

RAISED = raised()
_FEWEST_LETTERS = 5


def has_words(template: str) -> bool:
    """Whether the text itself, without what is filled in, tells a reader anything."""
    return ANY not in template or sum(character.isalpha() for character in template) >= _FEWEST_LETTERS


def test_every_error_that_can_be_raised_is_told() -> None:
    told = {read for trouble in TROUBLES for read in trouble.reads}
    files = {file for trouble in TROUBLES for file in trouble.raised_in}
    missing = [each for each in RAISED if (each.template not in told if has_words(each.template) else each.file not in files)]
    lines = dict.fromkeys(f'{each.file}: "{each.template}"' for each in missing)
    assert not lines, "put these into pipeline/troubleshooting:\n" + "\n".join(lines)


def test_nothing_is_told_that_is_never_raised() -> None:
    raised_somewhere = {each.template for each in RAISED}
    told = [read for trouble in TROUBLES for read in trouble.reads if not trouble.raised_in]
    stale = [read for read in told if read not in raised_somewhere]
    assert not stale, "no error reads like this any more:\n" + "\n".join(stale)
    wordless = {each.file for each in RAISED if not has_words(each.template)}
    assert {file for trouble in TROUBLES for file in trouble.raised_in} == wordless


def test_no_text_is_told_twice() -> None:
    reads = [read for trouble in TROUBLES for read in trouble.reads]
    assert len(reads) == len(set(reads))


def test_every_trouble_has_a_reason_and_a_remedy() -> None:
    for trouble in TROUBLES:
        assert trouble.why.endswith((".", "?")) and trouble.do.rstrip("`").endswith((".", ")")), trouble


def test_a_message_is_found_by_its_most_telling_words() -> None:
    hub = find_trouble("model.repo: owner/name is gated\n  accept its licence")
    assert hub and "licence" in hub.why
    offline = find_trouble("the base model owner/name is not on this machine and HF_HUB_OFFLINE is set")
    assert offline and "HF_HUB_OFFLINE" in offline.do
    assert find_trouble("something nobody ever said") is None


# ------------------------------------------------------------------------------------------------ the finder itself

SOURCE = '''
from pipeline.common.errors import BadInput; from pipeline.common.errors import HumigenceError

class Special(HumigenceError):
    pass

_WHERE = "at home"

def plain(name):
    raise BadInput(f"{name!r} is wrong", "a hint")

def by_variable(count):
    message = "one thing" if count == 1 else f"{count} things"
    raise Special(message + " are wrong")

def by_part(path):
    what = "missing" if path else "empty"
    raise BadInput(message=f"it is {what} {_WHERE}\\nmore")

def returned() -> HumigenceError:
    kind = next(iter((BadInput, Special)))
    return kind("of a kind")

def passed_on(error):
    text = f"{error}"
    text = f"{text} again"
    raise BadInput(error.text) from BadInput(text)

def no_error():
    raise ValueError("not ours")
'''  # fmt: skip


def test_the_finder_follows_variables_choices_and_classes() -> None:
    tree = ast.parse(SOURCE)
    found = {error.template for error in raised_by(tree, "x.py", error_classes([tree]) | {"BadInput"})}
    assert found == {
        "… is wrong", "one thing are wrong", "… things are wrong", "it is missing at home", "it is empty at home", "of a kind",
        "…", "… again",
    }  # fmt: skip


@pytest.mark.parametrize("error", ["BadInput", "EnvironmentFault", "MissingArtifact", "Diverged", "Stopped", "OutOfMemory"])
def test_the_finder_finds_errors_of_every_class(error: str) -> None:
    assert any(each.error == error for each in RAISED)
