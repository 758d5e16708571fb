"""Generated rows: the same for the same seed, varied, whole sentences, and usable as they are."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline.common.errors import BadInput
from pipeline.config.schema import Config, Topic
from pipeline.dataset import generate
from pipeline.dataset.cleaning import clean

TOPICS: tuple[Topic, ...] = get_args(Topic)
# What 240 rows with seed 42 are. Made by `humigence data generate`; a change of the facts changes it knowingly.
GOLDEN = "1b1791a0b494e54995fb57529ffa0282b90833e3e6b38784177df50bfa653bd1"


def rows_of(content: bytes) -> list[list[dict[str, str]]]:
    return [json.loads(line)["messages"] for line in content.decode().splitlines()]


def made(rows: int = 240, seed: int = 42, topics: tuple[Topic, ...] = TOPICS) -> list[list[dict[str, str]]]:
    return rows_of(generate.content(topics, rows, seed))


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others() -> None:
    content = generate.content(TOPICS, 240, 42)
    assert hashlib.sha256(content).hexdigest() == GOLDEN
    assert content == generate.content(TOPICS, 240, 42) != generate.content(TOPICS, 240, 43)


def test_fewer_rows_are_the_first_of_more() -> None:
    assert generate.content(TOPICS, 240, 7).startswith(generate.content(TOPICS, 60, 7))


@pytest.mark.parametrize("seed", [0, 42, 4_294_967_295])
@pytest.mark.parametrize("topic", TOPICS)
def test_every_conversation_of_a_topic_is_whole_and_asked_once(topic: Topic, seed: int) -> None:
    talks = generate.conversations(topic, seed)
    assert len(talks) >= 30
    for talk in talks:
        cleaned, changes = clean(talk)
        assert cleaned == talk and not changes, "nothing has to be tidied before it is trained on"
        for message in talk:
            assert not re.search(r"[{}]|None|  ", message["content"].replace("```", "")) or "`" in message["content"], message
            assert not re.search(r"\ba [aeiou]", message["content"]) or topic not in ("animals", "geography"), message
    asked = Counter(tuple(message["content"] for message in talk if message["role"] == "user") for talk in talks)
    assert max(asked.values()) == 1


def test_no_fact_is_asked_for_in_two_conversations() -> None:
    # Otherwise a held-out row would be another wording of one that was trained on.
    table = json.loads(generate.shipped("topics/geography.json").read_text(encoding="utf-8"))["tables"][0]
    talks = generate.conversations("geography", 3)
    for country, capital, *_ in table["rows"]:
        about_both = [talk for talk in talks if capital in talk[-1]["content"] or capital in talk[1]["content"]]
        assert len([talk for talk in about_both if country in json.dumps(talk, ensure_ascii=False)]) == 1, capital


def test_the_set_is_varied() -> None:
    talks = made()
    assert Counter(len(talk) for talk in talks if talk[0]["role"] == "user").keys() >= {2, 4}, "one and two questions"
    assert 3 <= sum(talk[0]["role"] == "system" for talk in talks) <= 40
    answers = [talk[-1]["content"] for talk in talks]
    assert len(set(answers)) > 0.97 * len(answers)
    assert max(map(len, answers)) > 200 and min(map(len, answers)) < 15
    openings = Counter(" ".join(talk[-2]["content"].split()[:2]) for talk in talks)
    assert openings.most_common(1)[0][1] < 0.25 * len(talks), "no question is opened like most others"


def test_topics_share_the_rows_and_one_that_is_used_up_leaves_its_share_to_others() -> None:
    few = len(generate.conversations("home", 1))
    talks = made(2 * few + 20, 1, ("home", "units"))
    home = {json.dumps(talk) for talk in generate.conversations("home", 1)}
    assert sum(json.dumps(talk) in home for talk in talks) == few


def test_more_rows_than_there_are_is_refused_with_the_number_there_is() -> None:
    most = len(generate.conversations("home", 0)) + len(generate.conversations("health", 0))
    assert len(made(most, 0, ("home", "health"))) == most
    with pytest.raises(BadInput, match=f"home, health hold {most}"):
        generate.content(("home", "health"), most + 1, 0)


@pytest.mark.parametrize("topic", ["arithmetic", "units"])
def test_what_is_worked_out_is_right(topic: Topic) -> None:
    checked = 0
    for question, answer in ((talk[0]["content"], talk[1]["content"]) for talk in generate.conversations(topic, 11)):
        for left, right in re.findall(r"(-?[\d.]*\d(?: [+−×] [\d.]*\d)+) = (-?[\d.]*\d)", answer):
            value = eval(left.replace("−", "-").replace("×", "*"))  # noqa: S307  digits and signs only
            assert abs(value - float(right)) < 0.006, (question, answer)
            checked += 1
    assert checked > 40


@pytest.mark.parametrize(
    ("asked", "answer"),
    [("miles", 1.609344), ("pounds", 0.45359237), ("US gallons", 3.785412), ("feet", 0.3048), ("weeks", 7), ("GiB", 1024)],
)
def test_measures_are_turned_into_others_by_their_factor(asked: str, answer: float) -> None:
    found = 0
    for talk in (talk for seed in range(3) for talk in generate.conversations("units", seed)):
        match = re.match(rf"(\d+) {asked} are (about )?([\d.]+) ", talk[1]["content"])
        if match:
            found += 1
            exact = int(match[1]) * answer
            assert abs(float(match[3]) - exact) < 0.0051 and bool(match[2]) == (abs(exact - float(match[3])) > 1e-9)
    assert found > 5


def test_generated_rows_need_no_setting_but_the_source(workspace: Path) -> None:
    from pipeline.dataset import source
    from pipeline.runs.folders import Workspace

    config = Config(data={"source": "generated", "generate": {"rows": 12}})  # type: ignore[arg-type]
    with source.as_file(config, Workspace(workspace)) as looked_at:
        before = looked_at.read_bytes()
    assert not list(workspace.iterdir()), "looking leaves nothing behind"
    path = source.put_in_place(config, Workspace(workspace))
    assert path == workspace / "data/raw/oa.jsonl" and path.read_bytes() == before and len(rows_of(before)) == 12
    with source.as_file(config, Workspace(workspace)) as looked_at:
        assert looked_at == path


@pytest.mark.parametrize("kind", ["bundled", "generated"])
def test_rows_that_stand_there_already_are_kept_and_told(workspace: Path, kind: Any) -> None:
    from pipeline.dataset import source
    from pipeline.runs.folders import Workspace

    here, config = Workspace(workspace), Config(data={"source": kind})  # type: ignore[arg-type]
    assert source.another_file(config, here) == ""
    path = source.put_in_place(config, here)
    assert source.another_file(config, here) == ""
    path.write_text('{"messages": []}\n')
    assert "was there already" in source.another_file(config, here)
    assert source.put_in_place(config, here).read_text() == '{"messages": []}\n'


@pytest.mark.parametrize("kind", ["bundled", "generated"])
def test_a_misspelt_path_is_a_missing_file_and_never_filled_with_made_rows(workspace: Path, kind: Any) -> None:
    from pipeline.dataset import source
    from pipeline.dataset.processed import raw_file
    from pipeline.runs.folders import Workspace

    here = Workspace(workspace)
    config = Config(data={"source": kind, "raw_path": "data/costum.jsonl"})  # type: ignore[arg-type]
    assert source.made(config) is None
    assert not source.put_in_place(config, here).exists()
    assert raw_file(config, here) == workspace / "data/costum.jsonl"
    assert "a file of your own" in source.another_file(config, here)
