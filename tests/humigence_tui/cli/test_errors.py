"""What a person gets who pastes an error."""

from __future__ import annotations

import json

import pytest

from humigence_tui.cli.main import main
from pipeline.troubleshooting.catalogue import TROUBLES


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["errors", *arguments]) == 0
    return capsys.readouterr().out


def test_an_error_that_is_pasted_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(printed(capsys, "--json", "✘ model.repo: owner/name is gated"))
    assert len(told) == 1 and "HF_TOKEN" in told[0]["do"] and set(told[0]) == {"reads", "why", "do"}


def test_words_find_every_trouble_that_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    told = printed(capsys, "proxy", "page")
    assert "HTTPS_PROXY" in told and "gated" not in told


def test_without_words_all_are_listed_and_unknown_words_are_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(json.loads(printed(capsys, "--json"))) == len(TROUBLES)
    assert main(["errors", "flux capacitor"]) == 2
    assert "humigence errors" in capsys.readouterr().err
