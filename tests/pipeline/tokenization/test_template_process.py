"""The renderings of a conversation take one way to the process that runs templates, and are what they are one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.tokenization import template_process
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.tokenization.messages import Message
from pipeline.tokenization.template_process import IsolatedTemplate, OutOfBounds, Refused
from tests import tiny
from tests.hostile_templates import HOSTILE

TALK = [Message(role=role, content=f"{role} {turn}") for turn in range(3) for role in ("user", "assistant")]
WANTED = [(6, False), (1, True), (2, False), (3, True), (4, False), (5, True)]


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the process."""
    asked, ask = list[str](), template_process._child.ask

    def noted(what: str, **given: Any) -> dict[str, Any]:
        asked.append(what)
        return ask(what, **given)

    monkeypatch.setattr(template_process._child, "ask", noted)
    return asked


def test_a_conversation_that_cannot_be_traced_is_one_request(tmp_path: Path, requests: list[str]) -> None:
    looks_into_it = tiny.CHATML.replace("message['content']", "(message['content'] | replace('x', 'x'))")
    tiny.save_tokenizer(tmp_path, template=looks_into_it, llama=False)
    tokenizer = ChatTokenizer.from_folder(tmp_path)
    tokenizer.encode_conversation(TALK)
    requests.clear()
    (document,) = tokenizer.encode_conversation(TALK)
    assert requests == ["render"] and len(document.spans) == 3


def test_renderings_together_are_those_of_each() -> None:
    template = IsolatedTemplate(tiny.CHATML, {})
    assert template.render_all(TALK, WANTED) == [template.render(TALK[:count], answer) for count, answer in WANTED]


def test_what_one_rendering_is_refused_for_is_told_of_that_one() -> None:
    template = IsolatedTemplate("{{ raise_exception('odd') if messages | length is odd else 'even' }}", {})
    found = template.render_all(TALK, WANTED)
    assert [each if isinstance(each, str) else str(each) for each in found] == ["even", "odd", "even", "odd", "even", "odd"]
    with pytest.raises(Refused, match="odd"):
        template.render(TALK[:1], answer=False)


def test_the_bounds_of_several_renderings_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    large = IsolatedTemplate("{{ 'x' * 20000000 }}", {})
    assert {len(str(each)) for each in large.render_all(TALK, WANTED)} == {20_000_000}, "together more than one may make"
    monkeypatch.setattr(template_process, "MOST_SECONDS", 0.3)
    endless = IsolatedTemplate("{% if messages | length > 1 %}" + HOSTILE["loop"] + "{% endif %}", {})
    with pytest.raises(OutOfBounds, match="it is not done after"):
        endless.render_all(TALK, WANTED)
    assert endless.render(TALK[:1], answer=False) == ""


@pytest.mark.parametrize("name", ["messages", "add_generation_prompt", "source", "variables", "wanted", "self"])
def test_an_argument_of_a_row_takes_no_place_of_ours(name: str) -> None:
    template = IsolatedTemplate("{{ messages | length }}{{ add_generation_prompt }}", {})
    assert template.render(TALK[:2], False, {name: "mine"}) == "2False"
