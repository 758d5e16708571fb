"""Config files as they come: read, or refused with the file, the place or the key, and what is allowed there."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest

from tests.corpus.desk import EXPECTED, HERE, told

FILES = sorted(file.name for file in (HERE / "configs").iterdir())


def test_every_config_of_the_corpus_has_an_expectation() -> None:
    assert {f"configs/{name}" for name in FILES} == {name for name in EXPECTED if name.startswith("configs/")}


@pytest.mark.parametrize("name", FILES)
def test_a_config_is_read_or_refused_in_words(name: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(HERE / "configs" / name, workspace / name)
    expected = EXPECTED[f"configs/{name}"]
    commands = (["config", "view"], ["validate"], ["config", "set", "seed", "3"])
    for command in commands if expected["exit"] else commands[::2]:
        done = told(capsys, *command, "--config", name)
        assert done.code == expected["exit"], done.text
        assert done.code == 0 or done.says(name, *expected["says"]), done.text
    if expected["exit"]:
        assert (workspace / name).read_bytes() == (HERE / "configs" / name).read_bytes()
        assert os.listdir(workspace) == [name]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"a": "' + b"x" * (10 << 20) + b'"}', "larger than 1 MiB, so not a config file"),
        (b'{"seed": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b"\0" * 1000, "line 1, column 1"),
    ],
    ids=["10 MB", "100,000 brackets", "NULs"],
)
def test_a_file_that_is_no_config_is_refused(
    content: bytes, says: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "c.json").write_bytes(content)
    done = told(capsys, "config", "view", "--config", "c.json")
    assert done.code == 2 and done.says("c.json", says)


@pytest.mark.parametrize("name", ["with space.json", "quo'te\".json", "line\nend.json", "ünï-日本.json", "$HOME`id`.json"])
def test_a_config_may_be_called_anything_and_the_next_command_names_it(
    name: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "deep").mkdir()
    path = f"deep/../deep/{name}"
    (workspace / path).write_text("{}")
    assert told(capsys, "config", "set", "seed", "7", "--config", path).code == 0
    assert json.loads((workspace / path).read_text())["seed"] == 7
    done = told(capsys, "eval", "--config", path)
    assert done.code == 5
    if "\n" not in name:
        assert path in shlex.split(done.text.splitlines()[-1])


@pytest.mark.parametrize(
    ("make", "says"),
    [(Path.mkdir, "no such config file"), (os.mkfifo, "no such config file"), (lambda path: path.symlink_to(path), "no such")],
    ids=["folder", "pipe", "loop"],
)
def test_what_is_no_file_is_no_config(make: object, says: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(workspace / "c.json")  # type: ignore[operator]
    done = told(capsys, "config", "view", "--config", "c.json")
    assert done.code == 2 and done.says("c.json", says)
