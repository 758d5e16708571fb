"""A chat template from a stranger renders as transformers renders it, or ends within bounds in a `BadInput`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from jinja2 import TemplateError

from pipeline.common.errors import BadInput
from pipeline.tokenization import template_sandbox
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.tokenization.template_sandbox import BoundedEnvironment, OutOfBounds
from tests import tiny
from tests.base_model.test_skeleton import TEMPLATES
from tests.hostile_templates import CONSTRUCTS, HOSTILE
from tests.processes import environment

MESSAGES = [{"role": "user", "content": "Which one?"}, {"role": "assistant", "content": "This\none."}]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_sandbox, "MOST_SECONDS", 0.3)


def render(source: str) -> str:
    environment_ = BoundedEnvironment()
    template = environment_.from_source(source)
    with environment_.rendering():
        return template.render(messages=MESSAGES, tools=None, documents=None, add_generation_prompt=False, eos_token="</s>")


# A bound that does not hold would take the whole machine: in a process whose memory and time are limited from outside.
_ALONE = """
import json, resource, sys, time
from pathlib import Path
from pipeline.tokenization import template_sandbox as bounded
from tests.base_model import test_bounded
from tests.hostile_templates import HOSTILE
test_bounded.render("{{ messages|tojson }}")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (768 << 20),) * 2)
bounded.MOST_SECONDS = 0.3
ended = {}
for name, source in HOSTILE.items():
    print(name, file=sys.stderr, flush=True)
    began = time.process_time()
    try:
        test_bounded.render(source)
        how = "rendered"
    except bounded.TEMPLATE_ERRORS as error:
        how = type(error).__name__
    ended[name] = [how, time.process_time() - began]
print(json.dumps(ended))
"""


def test_no_template_takes_the_machine() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ALONE], capture_output=True, text=True, env=environment(), timeout=300, check=False
    )
    assert done.returncode == 0, f"{done.stderr[-1500:]}"
    ended = json.loads(done.stdout)
    harmless = {"text times, never run", "power, never run"}
    assert {name for name, (how, _) in ended.items() if how == "rendered"} == harmless
    assert "MemoryError" not in {how for how, _ in ended.values()}
    assert {name: spent for name, (_, spent) in ended.items() if spent > 5} == {}


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("name", ["loop", "doubling lists", "power, never run", "text times", "deep source", "recursion"])
def test_a_model_with_such_a_template_is_bad_input_with_what_to_do(name: str, tmp_path: Path) -> None:
    tiny.save_tokenizer(tmp_path, template=tiny.CHATML + HOSTILE[name], llama=False)
    if name == "power, never run":
        assert ChatTokenizer.from_folder(tmp_path).encode_prompt([{"role": "user", "content": "x"}])
        return
    with pytest.raises(BadInput, match=r"can't be (used|trained)") as caught:
        ChatTokenizer.from_folder(tmp_path)
    assert "data.template" in caught.value.hint


@pytest.mark.usefixtures("soon")
def test_a_template_that_turns_hostile_on_some_rows_loses_those_rows_only(tmp_path: Path) -> None:
    trap = "{% if messages|length > 3 or 'trap' in messages[0].content %}" + HOSTILE["loop"] + "{% endif %}"
    tiny.save_tokenizer(tmp_path, template=tiny.CHATML + trap, llama=False)
    tokenizer = ChatTokenizer.from_folder(tmp_path)
    turn = {"user": "What?", "assistant": "That."}
    two = [{"role": role, "content": content} for role, content in turn.items()]
    assert tokenizer.encode_conversation(two)  # type: ignore[arg-type]
    for messages in ([*two, *two], [{"role": "user", "content": "a trap"}, two[1]]):
        with pytest.raises(BadInput, match="it is not done after"):
            tokenizer.encode_conversation(messages)  # type: ignore[arg-type]
    assert tokenizer.encode_conversation(two)  # type: ignore[arg-type]
    for _ in range(6):
        with pytest.raises(BadInput) as caught:
            tokenizer.encode_conversation([{"role": "user", "content": "a trap"}, two[1]])  # type: ignore[list-item]
    assert "is not tried again" in caught.value.message


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("answer", [False, True])
def test_what_is_within_bounds_is_what_transformers_renders(name: str, answer: bool) -> None:
    from transformers.utils.chat_template_utils import _compile_jinja_template

    given = {"messages": MESSAGES, "tools": None, "documents": None, "add_generation_prompt": answer, "eos_token": "</s>"}
    given |= {"bos_token": "<s>", "messages": [*MESSAGES, *MESSAGES][: 4 - answer]}
    environment_ = BoundedEnvironment()
    source = TEMPLATES[name][0]
    try:
        theirs = _compile_jinja_template(source).render(**given)
    except TemplateError as error:
        with pytest.raises(TemplateError, match=str(error)), environment_.rendering():
            environment_.from_source(source).render(**given)
        return
    with environment_.rendering():
        assert environment_.from_source(source).render(**given) == theirs


@pytest.mark.parametrize(
    "source",
    CONSTRUCTS,
)
def test_every_construct_gives_what_transformers_gives(source: str) -> None:
    from transformers.utils.chat_template_utils import _compile_jinja_template

    assert render(source) == _compile_jinja_template(source).render(
        messages=MESSAGES, tools=None, documents=None, eos_token="</s>"
    )


def test_the_bounds_are_those_of_one_rendering() -> None:
    environment_ = BoundedEnvironment()
    template = environment_.from_source("{{ 'x' * 20000000 }}")
    for _ in range(12):  # together more than one may make
        with environment_.rendering():
            assert len(template.render()) == 20_000_000
    with pytest.raises(OutOfBounds), environment_.rendering():
        for _ in range(12):
            template.render()
