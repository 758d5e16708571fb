"""The writers of the run folder, killed at each system call in turn, and the order in which they flush."""

from __future__ import annotations

import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.faults.declared import survives
from tests.faults.strace import Call, calls_after_mark, needs_strace, not_durable, touches_files, traced, was_killed_at
from tests.faults.writers import WRITERS, Writer

pytestmark = needs_strace

_NO_EXCHANGE = "renameat2:error=EINVAL"  # a file system that can't swap two names
_PROGRAM = str(Path(__file__).with_name("writers.py"))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each writer a folder with the old state in `old` and, after an untroubled change, the new one in `new`."""
    made = {}
    for name, writer in WRITERS.items():
        place = made[name] = tmp_path_factory.mktemp("writer")
        for state in ("old", "new"):
            (place / state).mkdir()
            writer.before(place / state)
        writer.change(place / "new")
    return made


def _killed(name: str, place: Path, also: tuple[str, ...], call: Call) -> str:
    """What is wrong after a death before `call`; empty when nothing is."""
    writer = WRITERS[name]
    folder, trace = place / f"{call.name}-{call.number}", place / f"{call.name}-{call.number}.trace"
    shutil.copytree(place / "old", folder, symlinks=True)
    status = traced([_PROGRAM, name, str(folder)], trace, *also, f"{call.name}:signal=KILL:when={call.number}")
    if status != -signal.SIGKILL or not was_killed_at(trace, call):
        return f"{call}: the process did not die there"
    try:
        found = writer.look(folder)
        if found not in _allowed(writer, place):
            return f"{call}: a mixture: {str(found)[:300]}"
        # The next start works in what was left, and comes to the new state.
        writer.change(folder)
        again = writer.look(folder)
    except Exception as error:  # noqa: BLE001  every moment is looked at before the test fails
        return f"{call}: {type(error).__name__}: {error}"
    finally:
        shutil.rmtree(folder)
    return "" if again == _allowed_again(writer, place, found, again) else f"{call}: the next start came to {str(again)[:300]}"


def _allowed(writer: Writer, place: Path) -> list[object]:
    return [writer.look(place / "old"), writer.look(place / "new"), *writer.steps(place / "old")]


def _allowed_again(writer: Writer, place: Path, found: object, again: object) -> object:
    """After the change is made again: the new state, or, for what grows with each change, one more than was found."""
    new = writer.look(place / "new")
    grown = isinstance(found, list) and isinstance(again, list) and len(again) > len(found)
    return again if grown else new


def _moments(name: str, place: Path, *also: str) -> list[Call]:
    folder, trace = place / "traced", place / "whole.trace"
    shutil.copytree(place / "old", folder, symlinks=True)
    assert traced([_PROGRAM, name, str(folder)], trace, *also) == 0
    shutil.rmtree(folder)
    return [call for call in calls_after_mark(trace) if touches_files(call)]


def _killed_in_turn(name: str, place: Path, *also: str) -> None:
    moments = _moments(name, place, *also)
    assert len(moments) >= 3
    with ThreadPoolExecutor(2) as pool:
        problems = [words for words in pool.map(partial(_killed, name, place, also), moments) if words]
    assert not problems, f"of {len(moments)} deaths:\n" + "\n".join(problems)


@survives(
    "death",
    "kill -9 of a writer: " + ", ".join(WRITERS),
    "before each system call that changes a file or a folder",
    "the next start sees the old state or the new one, never a mixture, and goes on from it",
)
@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_killed_at_any_system_call_leaves_the_old_state_or_the_new_one(name: str, places: dict[str, Path]) -> None:
    _killed_in_turn(name, places[name])


@survives(
    "death",
    "kill -9 while a package is replaced, on a file system that can't swap two names",
    "before each system call that changes a file or a folder",
    "the older package or the new one; where neither was in place, the next pack puts the older one back first",
)
def test_without_a_swap_of_names_the_older_folder_is_found_again(places: dict[str, Path], tmp_path: Path) -> None:
    place = tmp_path / "place"
    shutil.copytree(places["a package replaced"], place)
    problems = []
    for call in _moments("a package replaced", place, _NO_EXCHANGE):
        problems += _neither_lost(place, call)
    assert not problems, "\n".join(problems)


def _neither_lost(place: Path, call: Call) -> list[str]:
    from pipeline.common.files import new_folder

    writer, folder = WRITERS["a package replaced"], place / f"{call.name}-{call.number}"
    shutil.copytree(place / "old", folder)
    death = f"{call.name}:signal=KILL:when={call.number}"
    traced([_PROGRAM, "a package replaced", str(folder)], place / "trace", _NO_EXCHANGE, death)
    package = folder / "artifacts" / "demo"
    with pytest.raises(KeyboardInterrupt), new_folder(package):  # a next pack that does not come to its end
        raise KeyboardInterrupt
    found = writer.look(folder)
    left = [path.name for path in package.parent.iterdir() if path != package]
    shutil.rmtree(folder)
    if found not in (writer.look(place / "old"), writer.look(place / "new")):
        return [f"{call}: neither the older package nor the new one: {str(found)[:200]}"]
    return [f"{call}: {left} is left behind"] if left else []


@survives(
    "machine",
    "a power cut while a writer works (every writer but the cache, which may be lost)",
    "the order is read from a trace: after the last write of a file, before its rename, after it",
    "a file is flushed before it gets its name, and its folder after that",
)
@pytest.mark.parametrize("name", [name for name, writer in WRITERS.items() if writer.durable])
def test_a_file_is_flushed_before_its_rename_and_its_folder_after_it(name: str, places: dict[str, Path]) -> None:
    place = places[name]
    folder, trace = place / "flushed", place / "flushed.trace"
    shutil.copytree(place / "old", folder, symlinks=True)
    assert traced([_PROGRAM, name, str(folder)], trace) == 0
    calls = calls_after_mark(trace)
    assert any(call.name.startswith("rename") or call.name == "fdatasync" for call in calls)
    assert not_durable(calls, folder) == []
