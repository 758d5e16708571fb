"""Data files as they come: each ends in prepared rows with an honest report, or in exit code 2 with file, place and reason."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import chat_row, write_jsonl
from tests.corpus.desk import EXPECTED, HERE, half_written, told, write_config
from tests.processes import environment
from tests.waiting import PATIENCE_S

FILES = sorted(file.name for file in (HERE / "data").iterdir())


def test_every_file_of_the_corpus_has_an_expectation() -> None:
    assert {f"data/{name}" for name in FILES} == {name for name in EXPECTED if name.startswith("data/")}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_prepared_or_refused_in_words(
    name: str, workspace: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(HERE / "data" / name, workspace / name)
    write_config(workspace, tiny_model, name)
    expected = EXPECTED[f"data/{name}"]
    done = told(capsys, "preprocess", "--config", "c.json")
    assert done.code == expected["exit"], done.text
    assert done.says(*expected["says"], *([name] if done.code else [])), done.text
    assert half_written(workspace) == []
    assert bool(list((workspace / "data" / "processed").glob("*"))) == (done.code == 0)
    # What can be known before anything is loaded is known.
    before = told(capsys, "validate", "--config", "c.json")
    assert before.code == (2 if done.code else 0), before.text


def made(capsys: pytest.CaptureFixture[str], root: Path, model: Path, name: str = "rows.jsonl") -> str:
    """What preprocess says of a file that is refused, after validate has refused it too."""
    write_config(root, model, name)
    for command in ("preprocess", "validate"):
        done = told(capsys, command, "--config", "c.json")
        assert done.code == 2 and name.split("/")[-1] in done.text, done.text
    assert half_written(root) == []
    return done.text


def test_a_row_a_hundred_times_the_context_is_cut_into_windows_and_not_lost(
    workspace: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(workspace / "rows.jsonl", [chat_row("Say it all.", "again " * 3000), chat_row("a", "b")])
    write_config(workspace, tiny_model, "rows.jsonl", max_seq_len=64, window_overlap=8)
    assert told(capsys, "preprocess", "--config", "c.json").code == 0
    (report,) = (json.loads(file.read_text()) for file in (workspace / "data/processed").glob("*/report.json"))
    assert report["windowed_documents"] == 1 and report["windows"] > 100
    write_config(workspace, tiny_model, "rows.jsonl", max_seq_len=64, window_overlap=8, over_long="drop")
    assert told(capsys, "preprocess", "--config", "c.json").says("longer than 64 tokens (data.max_seq_len) (line 1)")


@pytest.mark.parametrize("opening", [b'{"messages": "', b'[{"messages": "', b'[{"messages": []}, {"messages": "', b"", b'[{"a":'])
def test_a_hundred_megabytes_on_one_line_are_refused(
    opening: bytes, workspace: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (workspace / "rows.jsonl").open("wb") as file:
        file.write(opening)
        for _ in range(100):
            file.write(b"x" * (1 << 20))
    text = made(capsys, workspace, tiny_model)
    assert ("line 1" in text and ("longer than 4 MiB" in text or "Expecting value" in text)) or "there are no messages" in text


def test_a_hundred_megabytes_of_rows_on_one_line_are_read(workspace: Path) -> None:
    from pipeline.dataset.readers.registry import reader_of

    row = json.dumps(chat_row("x" * 100_000, "y")).encode()
    (workspace / "rows.json").write_bytes(b"[" + b", ".join([row] * 1000) + b"]")
    assert reader_of(workspace / "rows.json").count(workspace / "rows.json") == 1000


@pytest.mark.parametrize("bracket", ["[", '{"a":', '[{"a":', '[{"a": ' + "["])
def test_a_hundred_thousand_brackets_are_refused(
    bracket: str, workspace: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "rows.jsonl").write_text(bracket * 100_000 + "\n")
    assert "nested too deeply" in made(capsys, workspace, tiny_model)


# In a process of its own, so that the limit is that of the reader alone: what it may take on top of what Python has taken.
_BOUNDED = """
import resource, sys
from pathlib import Path
from pipeline.dataset.readers.registry import reader_of; from pipeline.dataset.readers import file_check as readable
from pipeline.common.errors import BadInput
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20),) * 2)
try:
    readable.require_readable(Path(sys.argv[1]))
    count = sum(1 for _ in reader_of(Path(sys.argv[1])).rows(Path(sys.argv[1])))
except BadInput as error:
    print(error.message)
else:
    print(count)
"""


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ((b'{"a": "', b"x" * (1 << 20), b'"}\n'), "1"),
        ((b'[{"a": "', b"x" * (1 << 20), b'"}]\n'), "1"),
        ((b"[\n{}", b',{"a": "' + b"x" * (1 << 19) + b'"}' + b',{"a": "' + b"y" * (1 << 19) + b'"}', b"]"), "401"),
        ((b"", b'{"a": 1}\n' * (1 << 10), b""), str(200 << 10)),
        ((b"\n", b" " * (1 << 20), b"[{}]"), "1"),
        ((b"[{}", b" " * (1 << 20), b"]"), "1"),
        ((b'[{"a":', b"[" * (1 << 20), b"]"), "1"),
    ],
    ids=["one line", "one element", "an array of 200 MB", "short lines", "white space before", "white space within", "brackets"],
)
def test_memory_is_bounded_by_the_longest_row_and_not_by_the_file(
    tmp_path: Path, pieces: tuple[bytes, bytes, bytes], says: str
) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.write(pieces[0])
        for _ in range(200):
            file.write(pieces[1])
        file.write(pieces[2])
    done = subprocess.run(
        [sys.executable, "-c", _BOUNDED, str(path)], capture_output=True, text=True, env=environment(), timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert says in done.stdout


# ---------------------------------------------------------------------------------------------- what is no file at all


def _loop(path: Path) -> None:
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Path.mkdir, "is a folder"),
        (lambda path: os.mkfifo(path), "is a pipe; rows are read more than once, so it has to be a file"),
        (_loop, "is a symbolic link that leads back to itself"),
        (lambda path: path.symlink_to("nowhere"), "is a symbolic link to nowhere, which is not there"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device or a socket, not a file"),
        (lambda path: None, "no such file"),
    ],
    ids=["folder", "pipe", "loop of links", "dangling link", "device", "nothing"],
)
def test_what_is_no_file_is_told_by_what_it_is(
    make: Callable[[Path], None], says: str, workspace: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(workspace / "rows.jsonl")
    assert says in made(capsys, workspace, tiny_model)


@pytest.mark.parametrize(
    "name", ["with space.jsonl", "quo'te\".jsonl", "line\nend.jsonl", "ünï-日本.jsonl", "$HOME`id`.jsonl", "-c"]
)
def test_a_file_may_be_called_anything(name: str, workspace: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(workspace / "deep" / name, [chat_row(f"What is {n}?", "A number.") for n in range(3)])
    write_config(workspace, tiny_model, f"deep/../deep/./{name}")
    assert told(capsys, "preprocess", "--config", "c.json").code == 0
    (workspace / "deep" / name).write_bytes(b"PK\x03\x04")
    # The command that mends it can be pasted into a shell.
    import shlex

    command = told(capsys, "preprocess", "--config", "c.json").text.splitlines()[-1]
    if "\n" not in name:
        assert shlex.split(command)[2] == f"{workspace}/deep/../deep/./{name}".replace("/./", "/")


_UNPRIVILEGED = """
import os, sys
from pathlib import Path
from pipeline.dataset.readers.file_check import require_readable
from pipeline.common.errors import BadInput
path = Path(sys.argv[1])
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    require_readable(path)
except BadInput as error:
    print(error)
"""


def test_a_file_that_this_user_may_not_read_is_told_with_the_command_that_allows_it(tmp_path: Path) -> None:
    """Root may read everything, so the question is asked by a process that has given its rights away."""
    folder = tmp_path
    while folder != folder.parent and folder.stat().st_uid == os.getuid():  # as far up as these folders are ours
        folder.chmod(folder.stat().st_mode | 0o055)
        folder = folder.parent
    (tmp_path / "my rows.jsonl").write_text("{}\n")
    (tmp_path / "my rows.jsonl").chmod(0o000)
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "rows.jsonl").write_text("{}\n")
    (tmp_path / "closed").chmod(0o000)
    try:
        first, second = (
            subprocess.run(
                [sys.executable, "-c", _UNPRIVILEGED, str(tmp_path / name)],
                capture_output=True, text=True, env=environment(), timeout=PATIENCE_S, check=True,
            ).stdout
            for name in ("my rows.jsonl", "closed/rows.jsonl")
        )  # fmt: skip
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert "may not be read by this user" in first and f"chmod u+r '{tmp_path}/my rows.jsonl'" in first
    assert "Permission denied" in second and "closed/rows.jsonl" in second


def test_open_files_do_not_add_up(workspace: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(workspace, tiny_model, "rows.jsonl")
    (workspace / "rows.jsonl").write_text("[{}")
    told(capsys, "validate", "--config", "c.json")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        told(capsys, "validate", "--config", "c.json")
    assert len(os.listdir("/proc/self/fd")) <= before
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0
