"""Access is asked for with one request, at `validate`: against a small hub on the loopback interface, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import chat_row, write_jsonl
from tests.pipeline.steps.hub import COMMIT, Hub, serving
from tests.processes import IMPORT_PATH

# Each model is validated; what the hub was asked for meanwhile is told by the hub.
PROGRAM = """
import json, sys
from pathlib import Path
from pipeline.common.errors import HumigenceError
from pipeline.config.schema import Config
from pipeline.runs.context import StepContext
from pipeline.runs.folders import Workspace
from pipeline.steps import validate
answers = []
for model in json.loads(sys.argv[1]):
    seen = []
    settings = {"model": model, "compute": {"gpu": "cpu"}, "data": {"raw_path": "rows.jsonl"}}
    ctx = StepContext(Config.model_validate(settings), Workspace(Path.cwd()), emit=seen.append)
    try:
        validate.run(ctx)
        answer = {"code": 0, "message": "", "hint": ""}
    except HumigenceError as error:
        answer = {"code": error.exit_code, "message": error.message, "hint": error.hint}
    answers.append({**answer, "notes": [event.text for event in seen if type(event).__name__ == "Note"]})
print(json.dumps(answers), "torch" in sys.modules)
"""
PAGE = "https://huggingface.co/"


def validated(folder: Path, repos: list[str], *, is_here: bool = False, **environ: str) -> dict[str, dict[str, Any]]:
    """What `validate` says of each repository.

    Args:
        is_here: one of them is on this machine, and its tokenizer is tried, which takes what others need not.
    """
    write_jsonl(folder / "rows.jsonl", [chat_row("How are you?", "Well, thank you.")] * 5)
    environment = {
        "PYTHONPATH": IMPORT_PATH, "PATH": "/usr/bin:/bin", "HF_HOME": str(folder / "hf"), "NO_PROXY": "127.0.0.1",
        "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"],
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([{"repo": repo} for repo in repos])],
        cwd=folder, env=environment | environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers, torch = done.stdout.splitlines()[-1].rsplit(" ", 1)
    assert is_here or torch == "False"
    return dict(zip(repos, json.loads(answers), strict=True))


WITH_A_TOKEN = {
    "owner/name": (0, "", ""),
    "owner/nothing": (2, "no repository owner/nothing", "spelling"),
    "owner/licence": (2, "licence of owner/licence is not accepted by HF_TOKEN's account", f"accept it at {PAGE}owner/licence"),
    "owner/locked": (2, "licence of owner/locked is not accepted by HF_TOKEN's account", f"accept it at {PAGE}owner/locked"),
    "owner/review": (2, "access to owner/review is still in review", f"{PAGE}owner/review tells when it is granted"),
    "owner/rejected": (2, "have refused access", "choose another"),
    "owner/finegrained": (2, "may not read gated repositories", f"{PAGE}settings/tokens"),
    "owner/badtoken": (2, "not a token the hub knows", f"{PAGE}settings/tokens"),
    "owner/forbidden": (2, "HF_TOKEN does not open owner/forbidden", "read access"),
    "meta-llama/Llama-3.2-1B-Instruct": (2, "no repository meta-llama/Llama-3.2-1B-Instruct", "spelling"),
}
UNREACHABLE = ("owner/busy", "owner/broken", "owner/firewall")


@pytest.fixture(scope="module", autouse=True)
def known(tiny_model: Path) -> None:
    """What the model's class says of it is asked once, which takes torch; afterwards `validate` reads it."""
    from pipeline.modeling.inspect_architecture import architecture_of

    architecture_of(tiny_model / "config.json", "tiny")


@pytest.fixture(scope="module")
def asked(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, Any]], Hub]:
    """What `validate` says with a token, and the hub it asked."""
    with serving(tiny_model) as (address, hub):
        told = validated(
            tmp_path_factory.mktemp("access"), [*WITH_A_TOKEN, *UNREACHABLE], HF_ENDPOINT=address, HF_TOKEN="hf_forthehubalone"
        )
    return told, hub


@pytest.mark.parametrize("repo", WITH_A_TOKEN)
def test_what_stands_between_a_token_and_the_files_is_told_apart(asked: tuple[dict[str, Any], Hub], repo: str) -> None:
    code, message, hint = WITH_A_TOKEN[repo]
    answer = asked[0][repo]
    assert (answer["code"], message in answer["message"], hint in answer["hint"]) == (code, True, True), answer


@pytest.mark.parametrize("repo", UNREACHABLE)
def test_a_hub_that_cant_be_asked_is_a_warning(asked: tuple[dict[str, Any], Hub], repo: str) -> None:
    answer = asked[0][repo]
    assert answer["code"] == 0 and f"whether {repo} can be downloaded is not known" in answer["notes"][0]


def test_with_the_token_each_repository_is_asked_for_its_config_and_for_nothing_else(asked: tuple[dict[str, Any], Hub]) -> None:
    _, hub = asked
    once = [f"/{repo}/resolve/main/config.json" for repo in (*WITH_A_TOKEN, *UNREACHABLE)]
    assert list(dict.fromkeys(hub.asked)) == once  # in order; some twice: whether it opens, then the file itself
    assert hub.authorizations == {"Bearer hf_forthehubalone"}


def test_without_a_token_the_licence_page_and_the_command_are_said(tiny_model: Path, tmp_path: Path) -> None:
    curated = "meta-llama/Llama-3.2-1B-Instruct"
    with serving(tiny_model) as (address, _):
        told = validated(tmp_path, ["owner/gated", "owner/name"], HF_ENDPOINT=address)
    nowhere = validated(tmp_path, [curated], HF_ENDPOINT="http://127.0.0.1:1")
    for repo, answer in (("owner/gated", told["owner/gated"]), (curated, nowhere[curated])):
        assert answer["code"] == 2 and f"{repo} is gated" in answer["message"]
        assert answer["hint"] == f"accept its licence at {PAGE}{repo}, then hf auth login, or set HF_TOKEN"
    assert told["owner/name"]["code"] == 0


def test_a_model_that_is_here_and_one_that_may_not_be_fetched_ask_nothing(tiny_model: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hf/hub/models--owner--gated"
    shutil.copytree(tiny_model, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    with serving(tiny_model) as (address, hub):
        assert validated(tmp_path, ["owner/gated"], is_here=True, HF_ENDPOINT=address)["owner/gated"]["code"] == 0
        offline = validated(tmp_path, ["owner/name"], HF_ENDPOINT=address, HF_HUB_OFFLINE="1")["owner/name"]
    assert offline["code"] == 5 and "HF_HUB_OFFLINE" in offline["message"]
    assert hub.asked == []
