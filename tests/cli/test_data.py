"""`humigence data`: what it makes, shows and measures, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from humigence_tui.cli import main as cli
from pipeline import config_file
from pipeline.config import Config


class Ran:
    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        self.code = cli.main([str(each) for each in arguments])
        captured = capsys.readouterr()
        self.out, self.err = captured.out, captured.err

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def run(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *arguments: Ran(capsys, *arguments)


# ------------------------------------------------------------------------------------------------------------ generate


def test_generate_writes_the_rows_that_were_asked_for(run: Any, workspace: Path) -> None:
    told = run("data", "generate", "--rows", 9, "--topics", "cooking,units", "--seed", 3, "--output", "a/b.jsonl", "--json").json
    lines = (workspace / "a/b.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == told["rows"] == 9 and told["topics"] == {"cooking": 5, "units": 4} and told["written"]
    assert all(json.loads(line)["messages"][-1]["role"] == "assistant" for line in lines)


def test_generate_takes_what_is_not_given_from_the_config(run: Any, workspace: Path) -> None:
    document = {"seed": 5, "data": {"raw_path": "mine.jsonl", "generate": {"rows": 4, "topics": ["home", "health"]}}}
    config_file.save(config_file.parse(document, ""), "c.json")
    told = run("data", "generate", "--config", "c.json", "--json").json
    assert (told["path"], told["seed"], told["topics"]) == (str(workspace / "mine.jsonl"), 5, {"home": 2, "health": 2})


def test_generate_never_overwrites_another_file_unasked(run: Any, workspace: Path) -> None:
    (workspace / "mine.jsonl").write_text("precious\n")
    refused = run("data", "generate", "--output", "mine.jsonl")
    assert refused.code == 2 and "is there already" in refused.err and "--force" in refused.err
    assert (workspace / "mine.jsonl").read_text() == "precious\n"
    assert run("data", "generate", "--output", "mine.jsonl", "--force").code == 0
    again = run("data", "generate", "--output", "mine.jsonl", "--json").json
    assert again["written"] is False, "the same rows are there: nothing to refuse"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--topics", "cookng"), "there is no topic 'cookng', did you mean cooking?"),
        (("--rows", "0"), "data.generate.rows: must be whole number ≥ 2"),
        (("--rows", "99999"), "hold 1,"),
        (("--seed", "-1"), "seed: must be"),
        (("--output", "."), "is a folder"),
    ],
)
def test_generate_says_what_it_cannot_make(run: Any, options: tuple[str, ...], told: str) -> None:
    refused = run("data", "generate", *options)
    assert refused.code == 2 and told in refused.err and refused.out == ""


def test_generate_names_the_commands_that_lead_on(run: Any, workspace: Path) -> None:
    config_file.save(Config(), config_file.DEFAULT_CONFIG)
    assert "humigence config set data.raw_path" in run("data", "generate", "--output", "x.jsonl").err
    assert "config set" not in run("data", "generate").err
