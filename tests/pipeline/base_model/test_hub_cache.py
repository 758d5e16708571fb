"""The hub's cache and token are where huggingface_hub itself has them, whatever the environment says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processes import IMPORT_PATH
from tests.waiting import PATIENCE_S

_BOTH = """
import json
from huggingface_hub import constants, get_token
from pipeline.base_model.hub_cache import has_token, hub_cache, is_offline
theirs = [constants.HF_HUB_CACHE, get_token() is not None, constants.HF_HUB_OFFLINE]
print(json.dumps([theirs, [str(hub_cache()), has_token(), is_offline()]]))
"""
# The environment, below a home without anything; the cache folder; whether a token saved below `home/hf` is seen.
ENVIRONMENTS: dict[str, tuple[dict[str, str], str, bool]] = {
    "nothing": ({}, ".cache/huggingface/hub", False),
    "HF_HOME": ({"HF_HOME": "{home}/hf"}, "hf/hub", True),
    "HF_HOME with a variable": ({"HF_HOME": "$PLACE/hf", "PLACE": "{home}"}, "hf/hub", True),
    "HF_HOME with a tilde": ({"HF_HOME": "~/hf"}, "hf/hub", True),
    "XDG_CACHE_HOME": ({"XDG_CACHE_HOME": "{home}/xdg"}, "xdg/huggingface/hub", False),
    "a token under XDG_CACHE_HOME": ({"XDG_CACHE_HOME": "{home}/with-token"}, "with-token/huggingface/hub", True),
    "HF_HUB_CACHE": ({"HF_HOME": "{home}/hf", "HF_HUB_CACHE": "{home}/models"}, "models", True),
    "the old name of HF_HUB_CACHE": ({"HUGGINGFACE_HUB_CACHE": "{home}/models"}, "models", False),
    "HF_TOKEN_PATH": ({"HF_TOKEN_PATH": "$PLACE/hf/token", "PLACE": "{home}"}, ".cache/huggingface/hub", True),
    "HF_TOKEN": ({"HF_TOKEN": "hf_x"}, ".cache/huggingface/hub", True),
    "the old name of HF_TOKEN": ({"HUGGING_FACE_HUB_TOKEN": "hf_x"}, ".cache/huggingface/hub", True),
    "a blank HF_TOKEN": ({"HF_TOKEN": " "}, ".cache/huggingface/hub", False),
}


def answers(code: str, home: Path, environment: dict[str, str]) -> Any:
    """What a fresh interpreter with this environment prints."""
    changes = {name: value.replace("{home}", str(home)) for name, value in environment.items()}
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": IMPORT_PATH, "HOME": str(home)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=clean | changes, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    return json.loads(done.stdout)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for folder in ("hf", "with-token/huggingface"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "token").write_text("hf_saved")
    return tmp_path


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_cache_and_token_are_where_the_hub_s_own_client_has_them(name: str, home: Path) -> None:
    environment, cache, token = ENVIRONMENTS[name]
    theirs, ours = answers(_BOTH, home, environment)
    assert ours == theirs == [str(home / cache), token, False]


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_is_what_the_hub_s_own_client_takes_for_it(variable: str, home: Path) -> None:
    theirs, ours = answers(_BOTH, home, {variable: "1"})
    assert theirs == ours and ours[2] is True


def test_to_ask_costs_none_of_the_hub_s_network_code(home: Path) -> None:
    code = (
        "import json, sys\nfrom pipeline.base_model.hub_cache import *\nhub_cache(), has_token(), is_offline()\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    assert not set(answers(code, home, {})) & {"torch", "httpx", "httpx2", "requests", "yaml", "tqdm"}
