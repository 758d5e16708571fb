"""`humigence data`: what it makes, shows and measures, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from humigence_tui.cli import main as cli
from pipeline.config import file as config_file
from pipeline.config.schema import Config
from pipeline.dataset import processed
from pipeline.runs.folders import Workspace
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests.conftest import chat_row, write_jsonl


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
        (("--rows", "0"), "data.generate.rows: must be a whole number ≥ 2"),
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


# -------------------------------------------------------------------------------------------------------- show, stats


@pytest.fixture
def messy(workspace: Path, tiny_chatml_model: Path) -> Path:
    """A workspace with good rows, rejected ones and a twin; and the config that names them."""
    good = [chat_row(f"What is {number}?", f"A number, {number}.") for number in range(6)]
    lines = [
        *map(json.dumps, good[:2]),
        "{",
        json.dumps(chat_row("only a question")),
        *map(json.dumps, good[2:]),
        json.dumps(good[0]),
    ]
    (workspace / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    document = {"model": {"local_path": str(tiny_chatml_model)}, "data": {"raw_path": "rows.jsonl"}}
    config_file.save(config_file.parse(document, ""), config_file.DEFAULT_CONFIG)
    return workspace


def test_show_marks_exactly_what_is_trained(run: Any, messy: Path) -> None:
    shown = run("data", "show", "--limit", 1)
    assert shown.code == 0
    assert "⟦A number, 0.<|im_end|>⟧" in shown.out and shown.out.count("⟦") == 1
    assert "<|im_start|>user\nWhat is 0?<|im_end|>" in shown.out
    assert shown.out.startswith("row 1    tokens ") and "there are more" in shown.err


def test_show_tints_on_a_terminal_what_it_brackets_elsewhere(run: Any, messy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("humigence_tui.cli.shared.output.colours", lambda _: True)
    monkeypatch.setattr("humigence_tui.cli.shared.row_table.colours", lambda _: True)
    shown = run("data", "show", "--row", 1)
    assert "\x1b[36mA number, 0.<|im_end|>\x1b[0m" in shown.out and "⟦" not in shown.out
    assert "\x1b[2mWhat is 0?<|im_end|>\x1b[0m" in shown.out


def test_show_as_json_has_the_ids_and_labels_that_are_trained(run: Any, messy: Path, tiny_chatml_model: Path) -> None:
    (row,) = run("data", "show", "--row", 2, "--json").json
    tokenizer = ChatTokenizer.from_folder(tiny_chatml_model)
    (expected,) = tokenizer.encode_conversation(row["messages"])
    assert (row["documents"][0]["ids"], row["documents"][0]["labels"]) == (expected.ids, expected.labels)
    assert (row["row"], row["line"], row["used"], row["reason"]) == (2, 2, True, "")


def test_show_says_what_answers_weigh(run: Any, messy: Path) -> None:
    row = chat_row("Which?", "That.", "And?", "This.")
    row["messages"][3]["loss_weight"] = 0.5
    (messy / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert "in the loss its answers weigh 1, 0.5" in run("data", "show").out
    assert run("data", "show", "--json").json[0]["documents"][0]["weights"] == [1, 0.5]


def test_show_rejected_gives_every_reason_and_the_twin(run: Any, messy: Path) -> None:
    rows = run("data", "show", "--rejected", "--limit", 10, "--json").json
    assert [(row["row"], row["reason"]) for row in rows] == [
        (3, "not JSON: Expecting property name enclosed in double quotes"),
        (4, "there is no assistant turn to train on"),
        (9, "the same conversation stands further up"),
    ]
    assert not any(row["used"] for row in rows)
    assert "✘ not used: there is no assistant turn to train on" in run("data", "show", "--row", 4).out


def test_show_searches_what_is_said(run: Any, messy: Path) -> None:
    assert [row["row"] for row in run("data", "show", "--search", "NUMBER, 3", "--json").json] == [6]
    nothing = run("data", "show", "--search", "zebra")
    assert nothing.code == 0 and nothing.out == "" and "no row holds 'zebra'" in nothing.err


def test_show_says_how_many_rows_there_are_when_there_is_no_such_row(run: Any, messy: Path) -> None:
    refused = run("data", "show", "--row", 99)
    assert refused.code == 2 and "has no row 99" in refused.err and "it has 9" in refused.err


def test_show_without_the_base_model_shows_what_is_written(run: Any, messy: Path) -> None:
    run("config", "set", "model.local_path", "nowhere")
    shown = run("data", "show", "--limit", 1)
    assert shown.code == 0 and "What is 0?" in shown.out and "without the chat template" in shown.err


def test_nothing_in_a_row_reaches_the_terminal_raw(run: Any, messy: Path) -> None:
    (messy / "rows.jsonl").write_text(json.dumps(chat_row("a\x1b[2Jb", "c\u202ed")) + "\n")
    for options in ((), ("--json",)):
        shown = run("data", "show", *options)
        assert shown.code == 0 and "\x1b" not in shown.out and "\u202e" not in shown.out


def test_stats_are_those_of_the_prepared_data(run: Any, messy: Path) -> None:
    told = run("data", "stats", "--json").json
    assert not (messy / "data").exists(), "nothing is written"
    assert run("preprocess").code == 0
    here, config = Workspace(messy), config_file.load(config_file.DEFAULT_CONFIG)
    prepared = processed.find_processed(config, here)
    assert prepared is not None
    for name in ("rows", "kept", "rejected", "duplicates", "conversation_tokens", "splits"):
        assert told[name] == prepared.report[name], name
    figures = prepared.figures(config)
    assert (told["packed"]["rows"], told["packed"]["row_tokens"]) == (figures.rows, figures.row_tokens)
    assert told["packed"]["fill"] == round(figures.tokens / (figures.rows * figures.row_tokens), 4)
    assert sum(told["histogram"]["counts"]) == told["kept"] == 6


def test_stats_tell_a_person_lengths_shares_and_reasons(run: Any, messy: Path) -> None:
    told = run("data", "stats").out
    assert "rows             9\n" in told and "used             6\n" in told and "same as another  1\n" in told
    assert "1 row: there is no assistant turn to train on (line 4)" in told
    assert "p50 " in told and "p99 " in told and "% full" in told and "▇" in told


def test_stats_and_inspect_tell_what_belongs_to_held_out_rows_of_ones_own(
    run: Any, messy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(messy / "cache"))
    rows = [chat_row(f"What is {number}?", f"A number, {number}.") for number in range(12)]
    write_jsonl(messy / "train.jsonl", rows)
    (messy / "own.csv").write_text("prompt,completion\nwhat is 3,Three.\nWho?,I.\n")
    for key, value in (("data.raw_path", "train.jsonl"), ("data.test_path", "own.csv")):
        assert run("config", "set", key, value).code == 0
    assert run("config", "get", "data.test_path").out.strip() == "own.csv"
    told = "1 row left out of train for the sake of your own held-out rows:\n  1 row: the same first question (row 4)"
    stats = run("data", "stats").out
    assert told in stats and "own.csv: 2 rows as prompt_completion, 2 test" in stats
    inspected = run("data", "inspect").out
    assert told in inspected and "2 of 2 rows have prompt and completion" in inspected and "12 of 12 rows" in inspected
    found = run("data", "inspect", "--json").json
    assert found["used"] == 12 and found["held_out"]["test"]["used"] == 2
    assert found["leaks"] == run("data", "stats", "--json").json["leaks"]


def test_stats_without_the_base_model_or_without_rows_say_what_is_missing(run: Any, messy: Path) -> None:
    (messy / "rows.jsonl").write_text("{\n")
    refused = run("data", "stats")
    assert refused.code == 2 and "none of its 1 row" in refused.err
    run("config", "set", "model.local_path", "nowhere")
    assert run("data", "stats").code == 5


def test_rows_that_are_still_to_be_made_can_be_looked_at(run: Any, messy: Path) -> None:
    run("config", "set", "data.raw_path", "made.jsonl")  # first: a path that is set is taken for a person's own file
    run("config", "set", "data.source", "generated")
    assert len(run("data", "show", "--limit", 5, "--json").json) == 5
    assert run("data", "stats", "--json").json["kept"] == 240
    assert not (messy / "made.jsonl").exists()
