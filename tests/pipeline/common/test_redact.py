from __future__ import annotations

import base64

import pytest

from pipeline.common.errors import BadInput
from pipeline.common.redact import is_secret, redact
from tests.processes import python

SECRET = 'kept-by-nobody/Ünïque"1234'


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("token hf_AbCdEfGhIjKlMnOpQrSt is bad", "token [hidden] is bad"),
        ("https://name:password@hub.example/owner/name", "https://[hidden]@hub.example/owner/name"),
        ("https://hf_AbCdEfGhIjKlMnOpQrSt@hub.example/x", "https://[hidden]@hub.example/x"),
        ("GET /x?X-Amz-Signature=abc123&part=1", "GET /x?X-Amz-Signature=[hidden]&part=1"),
        ("GET /x?part=1&access_token=abc", "GET /x?part=1&access_token=[hidden]"),
        ("Authorization: Bearer abcdefgh.1234", "Authorization: Bearer [hidden]"),
        ("Proxy-Authorization: Basic bmFtZTpwdw==, then", "Proxy-Authorization: Basic [hidden], then"),
        ("{'authorization': 'Basic bmFtZTpwdw=='}", "{'authorization': 'Basic [hidden]'}"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, left: str) -> None:
    assert redact(text) == left
    assert redact(left) == left


@pytest.mark.parametrize(
    "text",
    [
        "see https://huggingface.co/owner/name?revision=main and write to a@b.example",
        "12 tokens in ?tokens=12, TOKENIZERS_PARALLELISM=false",
        "data.raw_path: /home/me/hf_rows/rows.jsonl is not there",
        "the bearer of this letter; a key, a secret, a password",
        "authorization: basics of it; Basic training",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_variables_that_hold_secrets_are_known_by_their_names() -> None:
    assert all(map(is_secret, ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "db_password")))
    assert not any(map(is_secret, ("TOKENIZERS_PARALLELISM", "HF_HOME", "KEYBOARD", "HF_HUB_DISABLE_TELEMETRY")))


def test_an_error_holds_no_token() -> None:
    error = BadInput("https://a:b@c/ refuses hf_AbCdEfGhIjKlMnOpQrSt", "unset hf_AbCdEfGhIjKlMnOpQrSt")
    assert "hf_" not in f"{error}{error.hint}" and "a:b" not in str(error)


def test_the_values_of_secret_variables_are_hidden_in_errors_events_and_output() -> None:
    done = python(
        """
import sys, tempfile
from pathlib import Path
from pipeline.common import redact
from pipeline.runs import event_log; from pipeline.runs import events; from pipeline.runs import store
from pipeline.runs.folders import Workspace
from pipeline.config.schema import Config
from pipeline.common.errors import BadInput
redact.hide_in("stdout", "stderr")
secret = sys.argv[1]
run = store.create(Workspace(Path(tempfile.mkdtemp())), Config(), {})
event_log.EventWriter(run).emit(events.Note(f"it is {secret}"))
print(run.events.read_text(), BadInput(f"not {secret}", f"set {secret}"), f"printed {secret}")
print(f"also {secret}", file=sys.stderr)
assert [each.event.text for each in event_log.EventReader(run).read()] == ["it is [hidden]"]
""",
        SECRET,
        WANDB_API_KEY=SECRET,
    )
    assert done.returncode == 0, done.stderr
    assert "nobody" not in done.stdout + done.stderr
    assert done.stdout.count("[hidden]") == 4 and "also [hidden]" in done.stderr


@pytest.mark.parametrize("address", ["http://name:pa%20ss-word@proxy.example:3128", "name:pa%20ss-word@proxy.example:3128/"])
def test_the_login_of_a_proxy_is_hidden_however_an_error_tells_it(address: str) -> None:
    code = "from pipeline.common.redact import redact; import sys; print(redact(sys.argv[1]))"
    sent = base64.b64encode(b"name:pa ss-word").decode()
    for told in (address, "login name:pa ss-word refused", f"header {sent}", "the word pa ss-word is wrong", "pa%20ss-word"):
        shown = python(code, told, HTTPS_PROXY=address).stdout
        assert "[hidden]" in shown and "ss-word" not in shown and sent not in shown, shown
    assert python(code, "12:30 a@b.example", NOTE="at 12:30@noon today").stdout == "12:30 a@b.example\n"
