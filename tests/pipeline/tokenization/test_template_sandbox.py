"""A chat template from a stranger renders as transformers renders it, or ends within bounds in a `BadInput`."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from jinja2 import TemplateError

from pipeline.common.errors import BadInput
from pipeline.tokenization import template_process
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.tokenization.template_environment import ChatEnvironment
from pipeline.tokenization.template_process import IsolatedTemplate, OutOfBounds, Refused
from tests import tiny
from tests.hostile_templates import CONSTRUCTS, HOSTILE
from tests.pipeline.tokenization.test_template_prerender import TEMPLATES
from tests.processes import environment, python, started

MESSAGES = [{"role": "user", "content": "Which one?"}, {"role": "assistant", "content": "This\none."}]
ONE = {"role": "user", "content": "x"}
VARIABLES = {"eos_token": "</s>"}


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_process, "MOST_SECONDS", 0.3)


def render(source: str) -> str:
    return IsolatedTemplate(source, VARIABLES).render(MESSAGES, answer=False)


# A bound that does not hold would take the whole machine: in a process whose memory and time are limited from outside.
_ALONE = """
import json, resource, sys, time
from pathlib import Path
from pipeline.tokenization import template_process
from tests.pipeline.tokenization import test_template_sandbox
from tests.hostile_templates import HOSTILE
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (768 << 20),) * 2)
template_process.MOST_SECONDS = 0.3
spent = lambda: sum(sum(resource.getrusage(whose)[:2]) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
ended = {}
for name, source in HOSTILE.items():
    print(name, file=sys.stderr, flush=True)
    began = spent()
    try:
        test_template_sandbox.render(source)
        how = "rendered"
    except template_process.Refused as error:
        how = type(error).__name__
    template_process._child.end()
    ended[name] = [how, spent() - began]
print(json.dumps([ended, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


def test_no_template_takes_the_machine() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ALONE], capture_output=True, text=True, env=environment(), timeout=300, check=False
    )
    assert done.returncode == 0, f"{done.stderr[-1500:]}"
    ended, most_kib = json.loads(done.stdout)
    harmless = {"text times, never run", "power, never run"}
    assert {name for name, (how, _) in ended.items() if how == "rendered"} == harmless
    assert "MemoryError" not in {how for how, _ in ended.values()}
    assert {name: spent for name, (_, spent) in ended.items() if spent > 5} == {}
    assert most_kib < 700 << 10


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

    variables = {"eos_token": "</s>", "bos_token": "<s>"}
    messages = [*MESSAGES, *MESSAGES][: 4 - answer]
    source = TEMPLATES[name][0]
    given = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": answer, **variables}
    try:
        theirs = _compile_jinja_template(source).render(**given)
    except TemplateError as error:
        with pytest.raises(Refused, match=re.escape(str(error))):
            IsolatedTemplate(source, variables).render(messages, answer)
        return
    assert IsolatedTemplate(source, variables).render(messages, answer) == theirs


@pytest.mark.parametrize("source", CONSTRUCTS)
def test_every_construct_gives_what_transformers_gives(source: str) -> None:
    from transformers.utils.chat_template_utils import _compile_jinja_template

    assert render(source) == _compile_jinja_template(source).render(
        messages=MESSAGES, tools=None, documents=None, eos_token="</s>"
    )


# What transformers adds to jinja's own, and what it takes away.
ADDED = [
    "{{ messages | tojson }}{{ {'b': 'é', 'a': '<'} | tojson(true, 2) }}{{ [1, {}] | tojson(separators=(',', ':')) }}",
    "{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}{{ strftime_now('%Y') }}",
    "{{ raise_exception('not so') }}",
    "{{ dict(a=1, **{'b': 2}) }}{{ dict([('a', 1)]) }}{{ dict.fromkeys('ab', 1) }}",
    "{{ dict.mro is defined }}",
    "{% set n = namespace(self=1, a=2) %}{% set n.b = 3 %}{{ n.self }}{{ n.a }}{{ n.b }}{{ n.c is defined }}",
    "{{ messages.append(1) }}",
    "{% for m in messages %}\n  {% if m %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}\n",
]


# What transformers refuses too, from 5.2x on.
PRIVATE = [
    "{{ namespace(_a=1) }}",
    "{{ namespace({'__class__': 1}) }}",
    "{% set n = namespace() %}{% set n.__init__ = 1 %}",
]


@pytest.mark.parametrize("source", PRIVATE)
def test_a_namespace_takes_no_private_name(source: str) -> None:
    from transformers.utils.chat_template_utils import _compile_jinja_template

    with pytest.raises(Refused) as ours:
        render(source)
    try:
        _compile_jinja_template(source).render(messages=MESSAGES)
    except Exception as theirs:  # noqa: BLE001 - whatever it is, it is ours too
        assert str(theirs) in str(ours.value)


@pytest.mark.parametrize("source", ADDED)
def test_what_transformers_adds_to_jinja_does_what_it_does_there(source: str) -> None:
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        theirs = _compile_jinja_template(source).render(messages=MESSAGES, tools=None, documents=None, eos_token="</s>")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is ours too
        with pytest.raises(Refused, match=re.escape(str(error))):
            render(source)
        return
    assert render(source) == theirs


def test_a_template_finds_every_name_that_transformers_gives_it() -> None:
    from transformers.utils.chat_template_utils import _compile_jinja_template

    ours, theirs = ChatEnvironment(), _compile_jinja_template("").environment
    assert ours.filters.keys() == theirs.filters.keys()
    assert ours.tests.keys() == theirs.tests.keys()
    assert ours.globals.keys() == theirs.globals.keys() - {"lipsum"}, "what a template writes is not left to chance"
    for ours_in, theirs_in in ((ours.filters, theirs.filters), (ours.tests, theirs.tests)):
        assert {name for name in ours_in if ours_in[name] is not theirs_in[name]} <= {"tojson"}
    changed = {name for name in ours.globals if ours.globals[name] is not theirs.globals[name]}
    assert changed == {"raise_exception", "strftime_now", "dict", "namespace"}
    assert {type(each).__mro__[1] for each in ours.extensions.values()} == {
        type(each).__mro__[1] for each in theirs.extensions.values()
    }


def test_the_bounds_are_those_of_one_rendering() -> None:
    template = IsolatedTemplate("{% for n in range(messages|length) %}{{ 'x' * 20000000 }}{% endfor %}", {})
    for _ in range(12):  # together more than one may make
        assert len(template.render([ONE], answer=False)) == 20_000_000
    with pytest.raises(OutOfBounds):
        template.render([ONE] * 12, answer=False)
    assert len(template.render([ONE], answer=False)) == 20_000_000


# ------------------------------------------------------------------------------------------------------ the process


def child() -> psutil.Process:
    process = template_process._child._process
    assert process is not None
    return psutil.Process(process.pid)


def test_one_process_runs_all_templates_and_a_new_one_takes_the_place_of_a_dead_one() -> None:
    first = IsolatedTemplate("{{ messages[0].role }}", {})
    pid = child().pid
    second = IsolatedTemplate("{{ messages[0].content }}", {})
    assert child().pid == pid
    assert child().cwd() == "/", "a disk with a workspace can be unmounted while it runs"
    child().send_signal(signal.SIGKILL)
    assert (first.render([ONE], answer=False), second.render([ONE], answer=False)) == ("user", "x")
    assert child().pid != pid


@pytest.mark.usefixtures("soon")
def test_a_template_that_takes_too_long_takes_nothing_with_it() -> None:
    endless = IsolatedTemplate("{% if messages|length > 1 %}" + HOSTILE["loop"] + "{% endif %}{{ messages[0].content }}", {})
    for _ in range(2):
        with pytest.raises(OutOfBounds, match=r"it is not done after 0\.3 seconds of computing"):
            endless.render(MESSAGES, answer=False)
        assert endless.render([ONE], answer=False) == "x"


def test_an_answer_that_nobody_waited_for_is_not_the_next_ones() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    slow = "{% for a in range(1500) %}{% for b in range(1000) %}{% endfor %}{% endfor %}late"
    template, before = IsolatedTemplate(slow, {}), signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(KeyboardInterrupt):
            template.render(MESSAGES, answer=False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert render("{{ 'next' }}") == "next"


_OF_A_FORK = """
import os
from pipeline.tokenization.template_process import IsolatedTemplate; from pipeline.tokenization.template_process import _child
template = IsolatedTemplate("{{ messages[0].content }}", {})
of_the_parent = _child._process.pid
pid = os.fork()
for n in range(200):
    assert template.render([{"role": "user", "content": f"{pid} {n}"}], False) == f"{pid} {n}"
assert (_child._process.pid == of_the_parent) == (pid != 0)
if pid:
    assert os.waitpid(pid, 0)[1] == 0
"""


def test_a_fork_has_a_process_of_its_own() -> None:
    assert (done := python(_OF_A_FORK)).returncode == 0, done.stderr


_UNTIL_KILLED = """
import os, sys, threading
from pipeline.tokenization import template_process
from tests.hostile_templates import HOSTILE
template_process.MOST_SECONDS = float(sys.argv[1])
template = template_process.IsolatedTemplate("{% if messages|length > 1 %}" + HOSTILE["loop"] + "{% endif %}", {})
print("ready", flush=True)
print(template_process._child._process.pid, flush=True)
template.render([{"role": "user", "content": "x"}] * int(sys.argv[2]), False)
sys.stdin.read()
"""


@pytest.mark.parametrize("messages", [1, 2])
def test_it_ends_with_its_parent_also_while_a_template_runs(messages: int) -> None:
    parent = started(_UNTIL_KILLED, 1, messages)
    assert parent.stdout is not None
    process = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate(timeout=60)
    process.wait(timeout=60)


def test_nothing_that_takes_long_is_imported_to_run_a_template() -> None:
    code = "import sys, pipeline.tokenization.template_worker; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(python(code).stdout.split())
    assert "jinja2" in loaded and loaded.isdisjoint({"numpy", "pydantic", "tokenizers", "torch", "transformers"})
