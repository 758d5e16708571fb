"""What is found once for all conversations of some roles is what would be found for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipeline.common.errors import BadInput
from pipeline.tokenization import template_prerender, template_worker
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.tokenization.messages import Message
from pipeline.tokenization.template_prerender import Skeletons
from pipeline.tokenization.template_process import IsolatedTemplate
from tests import tiny
from tests.pipeline.tokenization.samples import FORGETS_THOUGHTS, FRAGMENTS

VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}
ROLES = [
    ("user",),
    ("user", "assistant"),
    ("system", "user", "assistant"),
    ("user", "assistant", "user", "assistant"),
    ("system", "user", "user", "assistant", "assistant", "user"),
]
EACH = (
    "{% for message in messages %}<|{{ message.role }}|>BODY</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
FOLLOWED = {
    "zephyr": tiny.ZEPHYR,
    "chatml": tiny.CHATML,
    "thoughts": FORGETS_THOUGHTS,
    "trimmed": EACH.replace("BODY", "{{ message.content | trim }}"),
    "trimmed with what is around it": EACH.replace("BODY", "{{ ('\n ' + message.content ~ ' \n') | trim }}"),
    "macro": "{% macro said(text) %} {{ text }} {% endmacro %}" + EACH.replace("BODY", "{{ said(message.content) | trim }}"),
    "block": EACH.replace("BODY", "{% set text %}[{{ message.content }}]{% endset %}{{ text.strip() }}"),
    "asks": EACH.replace("BODY", "{% if '</think>' in message.content %}!{% else %}{{ message.content }}{% endif %}"),
    "asks for a beginning": EACH.replace("BODY", "{{ '' if message.content.startswith('<') else message.content }}"),
    "asks whether it is": EACH.replace("BODY", "{{ '!' if message['content'] == 'Paris' else message['content'] }}"),
    "system in front of the first turn": (
        "{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n' %}{% set rest = messages[1:] %}"
        "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}[{{ m.role }}]{{ (first if loop.first else '') + m.content }}</s>{% endfor %}"
    ),
    "generation tag": EACH.replace("BODY", "{% generation %}{{ message.content }}{% endgeneration %}"),
}
# Each looks at contents in a way of its own; {0} is a message's content.
LOOKS = [
    "{{ {0} | length }}",
    "{{ {0} | upper }}",
    "{{ {0}[:3] }}",
    "{{ {0} | replace('a', 'b') }}",
    "{{ 'xax' | replace('a', {0}) | length }}",
    "{{ {0} | tojson }}",
    "{{ [{0}, 'x'] | join('-') | length }}",
    "{{ '-'.join([{0}, 'x']) | length }}",
    "{{ '%s' % {0} }}",
    "{{ ('%s' % {0}) | length }}",
    "{{ ('%s' % ({0},)) | length }}",
    "{{ ('%s' % [{0}]) | length }}",
    "{{ '{}'.format({0}) | length }}",
    "{{ ({0} ~ 'x') | length }}",
    "{{ 1 if {0} in 'The capital Paris' else 0 }}",
    "{{ 1 if {0} is in 'The capital Paris' else 0 }}",
    "{{ 1 if {0} in ['Paris', 'é'] else 0 }}",
    "{{ 1 if {0} in {'Paris': 1} else 0 }}",
    "{{ 1 if {0} > 'M' else 0 }}",
    "{{ 1 if {0} != 'Paris' else 0 }}",
    "{{ 1 if {0} == messages[-1].content else 0 }}",
    "{{ 1 if {0} in messages[-1].content else 0 }}",
    "{{ ' Paris '.strip({0}) }}",
    "{{ ('Par' + {0}).lstrip({0}) }}",
    "{{ 1 if {0} is lower else 0 }}",
    "{{ 1 if 'x'.startswith({0}) else 0 }}",
    "{{ 1 if 'Paris'.strip({0}) else 0 }}",
    "{{ {'a': {0}} }}",
    "{{ message }}",
    "{% for c in {0} %}.{% endfor %}",
    "{% set s %}{{ {0} }}{% endset %}{{ s | length }}",
    "{% macro m() %}{{ {0} }}{% endmacro %}{{ m() | length }}",
    "{% filter upper %}{{ {0} }}{% endfilter %}",
    "{{ {0}.split() | length }}",
    "{{ {0}.find('s') }}",
    "{{ {0} * 2 }}",
    "{{ (messages | map(attribute='content') | list | first) | length }}",
    "{{ messages | selectattr('content', 'equalto', 'Paris') | list | length }}",
    "{{ (messages | sort(attribute='content') | first).role }}",
    "{{ messages | groupby('content') | list | length }}",
]


def render(template: str) -> template_prerender.Render:
    """As transformers does it."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **VARIABLES)

    def rendered(roles: Sequence[str], contents: Sequence[str], answer: bool) -> str:
        messages = plain(roles, contents)
        return str(tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=answer))

    return rendered


def plain(roles: Sequence[str], contents: Sequence[str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": text} for role, text in zip(roles, contents, strict=True)]


def traced(template: str) -> template_prerender.Trace:
    isolated = IsolatedTemplate(template, VARIABLES)
    return lambda roles, stand_ins, answer: isolated.trace(plain(roles, stand_ins), stand_ins, answer)


def nasty(draw: Random) -> str:
    fragments = [*FRAGMENTS, "</think>", "<think>", "Paris", "\n</think>\n\n"]
    text = ""
    while not text.strip():
        text = "".join(draw.choice(fragments) for _ in range(draw.randint(1, 6)))
    return text if draw.random() < 0.3 else text.strip()


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_skeleton_filled_is_what_transformers_renders(name: str) -> None:
    theirs, draw, filled = render(FOLLOWED[name]), Random(7), 0
    skeletons = Skeletons(traced(FOLLOWED[name]), theirs)
    for roles in ROLES * 20:
        for answer in (False, True):
            contents = [nasty(draw) for _ in roles]
            found = skeletons.find(roles, answer)
            assert found is not None, "such templates are followed"
            if found.holds(contents):
                filled += 1
                assert found.filled(contents) == theirs(roles, contents, answer)
    assert filled > 20


@pytest.mark.parametrize("look", LOOKS)
def test_no_look_at_a_content_goes_unnoticed(look: str) -> None:
    template = "{% for message in messages %}<|{{ message.role }}|>" + look.replace("{0}", "message.content") + "</s>{% endfor %}"
    theirs, draw = render(template), Random(7)
    skeletons = Skeletons(traced(template), theirs)
    for roles in ROLES[:3] * 15:
        contents = [draw.choice(["Paris", "é", "x", nasty(draw)]) for _ in roles]
        found = skeletons.find(roles, False)
        if found is not None and found.holds(contents):
            assert found.filled(contents) == theirs(roles, contents, False)


def test_a_template_that_writes_the_date_is_found_anew_the_next_day(monkeypatch: pytest.MonkeyPatch) -> None:
    template = EACH.replace("BODY", "{{ strftime_now('%d %b') }}: {{ message.content }}")
    today = ["24 Nov"]

    def theirs(roles: Sequence[str], contents: Sequence[str], answer: bool) -> str:
        return "".join(f"<|{role}|>{today[0]}: {text}</s>" for role, text in zip(roles, contents, strict=True))

    def traced_here(roles: Sequence[str], stand_ins: Sequence[str], answer: bool) -> dict[str, Any]:
        return template_worker.trace(template, plain(roles, stand_ins), list(stand_ins), answer, VARIABLES)

    for module in (template_prerender, template_worker):
        monkeypatch.setattr(module, "strftime_now", lambda _pattern: today[0])
    skeletons = Skeletons(traced_here, theirs)
    first = skeletons.find(("user",), False)
    assert first is not None and first.filled(["Hi"]) == "<|user|>24 Nov: Hi</s>"
    today[0] = "25 Nov"
    assert not first.holds(["Hi"])
    second = skeletons.find(("user",), False)
    assert second is not None and second.filled(["Hi"]) == "<|user|>25 Nov: Hi</s>"


def test_a_rendering_that_is_not_transformers_own_is_not_used() -> None:
    assert Skeletons(traced(tiny.CHATML), lambda *_: "something else").find(("user",), False) is None


# ------------------------------------------------------------------------------------------- drafts and documents

NOT_SPECIAL_BEFORE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m['content'] + eos_token }}{% else %}{{ raise_exception('no system') }}{% endif %}"
    "{% endfor %}"
)
TEMPLATES = {
    "zephyr": (tiny.ZEPHYR, True),
    "chatml": (tiny.CHATML, False),
    "thoughts": (FORGETS_THOUGHTS, False),
    "thinks before": (tiny.CHATML.replace("+ message['content']", "+ ('hm ' if loop.last else '') + message['content']"), False),
    "words before": (tiny.CHATML.replace("+ message['content']", "+ 'says: ' + message['content']"), False),
    "no token before the answer": (NOT_SPECIAL_BEFORE, True),
    "trimmed": (tiny.CHATML.replace("message['content']", "(message['content'] | trim)"), False),
    "words after the end": (tiny.CHATML.replace("'<|im_end|>' + '\n'", "'<|im_end|>' + ' Paris\n'"), False),
    "two ends": (tiny.CHATML.replace("'<|im_end|>' + '\n'", "'<|im_end|><|endoftext|>' + '\n'"), False),
    "half a token before": (
        tiny.CHATML.replace("message['role'] + '\n'", "message['role'] + '<|im_'").replace("assistant\n", "assistant<|im_"),
        False,
    ),
    "half a token after": (tiny.CHATML.replace("+ '<|im_end|>'", "+ 'end|><|im_end|>'"), False),
    "words between two ends": (tiny.CHATML.replace("'<|im_end|>' + '\n'", "'<|im_end|> Paris <|endoftext|>\n'"), False),
    "a token before the answer": (
        tiny.CHATML.replace(
            "+ message['content']", "+ ('<|endoftext|>' if message.role == 'assistant' else '') + message['content']"
        ),
        False,
    ),
    "earlier answers are marked": (
        tiny.CHATML.replace(
            "+ '<|im_end|>'", "+ (' (old)' if message.role == 'assistant' and not loop.last else '') + '<|im_end|>'"
        ),
        False,
    ),
    "content by content": (
        "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% else %}"
        "{% if m.role == 'assistant' %}<|im_start|>{% endif %}{{ m.content + '<|im_end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% endif %}",
        False,
    ),
}


# What makes a control token with the words of some template above, or says the same as they do.
POINTED = ["<|im_", "end|>", "Paris", "x<|im_", "end|> x", "<|im_end|>", "(old)"]


def slowly(folder: Path) -> ChatTokenizer:
    """One that renders and looks through each beginning of each conversation."""
    tokenizer = ChatTokenizer.from_folder(folder)
    tokenizer._skeletons = Skeletons(lambda *_: {}, tokenizer._rendered)
    tokenizer._outline = lambda roles: None  # type: ignore[assignment, method-assign]
    return tokenizer


def outcome(tokenizer: ChatTokenizer, messages: list[Message]) -> Any:
    try:
        return [(each.ids, each.labels, each.spans, each.weights) for each in tokenizer.encode_conversation(messages)]
    except BadInput as error:
        return error.message


@pytest.mark.parametrize("name", TEMPLATES)
def test_documents_are_those_of_the_slow_way(name: str, tmp_path: Path) -> None:
    template, llama = TEMPLATES[name]
    tiny.save_tokenizer(tmp_path, template=template, llama=llama)
    try:
        fast = ChatTokenizer.from_folder(tmp_path)
    except BadInput as error:
        with pytest.raises(BadInput, match="can't be trained") as slow_error:
            slowly(tmp_path)
        assert slow_error.value.message == error.message
        return
    slow, draw = slowly(tmp_path), Random(3)
    for _ in range(150):
        roles = [*(["system"] if draw.random() < 0.3 else []), *["user", "assistant"] * draw.randint(1, 3)]
        messages = [Message(role=role, content=draw.choice([nasty(draw), draw.choice(POINTED)])) for role in roles]
        assert outcome(fast, messages) == outcome(slow, messages)
        if draw.random() < 0.3:
            messages = [_weighing(message, draw.choice([0, 0, 0.5, 1, 2])) for message in messages]
            assert outcome(fast, messages) == outcome(slow, messages)


def _weighing(message: Message, weight: float) -> Message:
    return {**message, "weight": weight} if message["role"] == "assistant" else message


@pytest.mark.parametrize("name", ["zephyr", "chatml", "words before", "two ends"])
def test_templates_of_the_common_kind_have_an_outline(name: str, tmp_path: Path) -> None:
    template, llama = TEMPLATES[name]
    tiny.save_tokenizer(tmp_path, template=template, llama=llama)
    tokenizer = ChatTokenizer.from_folder(tmp_path)
    for roles in (("user", "assistant"), ("system", "user", "assistant"), ("user", "assistant") * 3):
        assert tokenizer._outline(roles) is not None
