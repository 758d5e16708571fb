"""The model step against a small hub on the loopback interface, each time in a process of its own: the hub's client reads its
settings when it is imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.steps.hub import COMMIT, Hub, serving
from tests.processes import IMPORT_PATH
from tests.waiting import killed, wait_until

PROGRAM = """
import json, sys
from pathlib import Path
from pipeline.config.schema import Config
from pipeline.runs import progress
from pipeline.runs.context import StepContext
from pipeline.common.errors import HumigenceError
from pipeline.system import disk as room
from pipeline.hub import fetch
from pipeline.runs.folders import Workspace
from pipeline.steps import model
fetch.WAITS_S = fetch.FIRST_WAITS_S = (0.0,) * 3
if "little room" in sys.argv:
    room.free_disk_bytes = lambda path: 300 << 20
if "stop at half" in sys.argv:
    progress.EVERY_S = 0.0
def one(section):
    seen = []
    def stop():
        begun = any(event.done for event in seen if type(event).__name__ == "StepProgress")
        return "save" if begun and "stop at half" in sys.argv else None
    ctx = StepContext(Config.model_validate({"model": section}), Workspace(Path.cwd()), emit=seen.append, stop=stop)
    before = model.is_unchanged(ctx)
    try:
        result = model.run(ctx)
        answer = {"outcome": result.outcome, "summary": result.summary}
    except HumigenceError as error:
        answer = {"code": error.exit_code, "message": error.message, "hint": error.hint}
    progress = [[event.done, event.total, event.unit] for event in seen if type(event).__name__ == "StepProgress"]
    notes = [event.text for event in seen if type(event).__name__ == "Note"]
    return {**answer, "progress": progress, "notes": notes, "unchanged": [before, model.is_unchanged(ctx)]}
print(json.dumps([one(section) for section in json.loads(sys.argv[1])]), "torch" in sys.modules)
"""


def run_models(folder: Path, models: list[dict[str, Any]], *arguments: str, **environ: str) -> list[dict[str, Any]]:
    environment = {"PYTHONPATH": IMPORT_PATH, "PATH": "/usr/bin:/bin", "HF_HOME": str(folder / "hf"), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(models), *arguments],
        cwd=folder, env=environment | environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers, torch = done.stdout.splitlines()[-1].rsplit(" ", 1)
    assert torch == "False"
    read: list[dict[str, Any]] = json.loads(answers)
    return read


def run_model(folder: Path, model: dict[str, Any], *arguments: str, **environ: str) -> dict[str, Any]:
    return run_models(folder, [model], *arguments, **environ)[0]


@pytest.fixture(scope="module")
def repository(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository as they are: weights twice, pickles, code, another form of the weights in a subfolder. Read only."""
    folder = Path(shutil.copytree(tiny_model, tmp_path_factory.mktemp("hub") / "repository"))
    others = (
        "pytorch_model.bin", "modeling_evil.py", "consolidated.safetensors", "original/consolidated.00.pth", "README.md",
    )  # fmt: skip
    for name in others:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x" * 100)
    return folder


@dataclass
class Place:
    """A hub and a folder whose cache is empty."""

    hub: Hub
    address: str
    folder: Path

    def run(self, *arguments: str, **environ: str) -> dict[str, Any]:
        return run_model(self.folder, {"repo": "owner/name"}, *arguments, **{"HF_ENDPOINT": self.address} | environ)

    @property
    def size(self) -> int:
        return (self.hub.folder / "model.safetensors").stat().st_size

    @property
    def downloaded(self) -> bytes:
        snapshot = self.folder / "hf/hub/models--owner--name/snapshots" / COMMIT
        return (snapshot / "model.safetensors").read_bytes()

    def weights_asked(self) -> list[str]:
        return [wish for name, wish in self.hub.ranges if name == "model.safetensors"]


@pytest.fixture
def place(repository: Path, tmp_path: Path) -> Iterator[Place]:
    with serving(repository) as (address, hub):
        yield Place(hub, address, tmp_path)


def without(repository: Path, folder: Path, *names: str) -> Path:
    """A copy of the repository that lacks some files."""
    copy = Path(shutil.copytree(repository, folder / "other"))
    for name in names:
        (copy / name).unlink()
    return copy


def test_a_repository_is_downloaded_without_pickles_and_code_and_then_stands(place: Place) -> None:
    first, asked = place.run(), {name for name, _ in place.hub.ranges}
    again = place.run()
    assert first["outcome"] == "done" and first["unchanged"] == [False, True]
    done, total, unit = first["progress"][-1]
    assert done == total >= place.size and unit == "bytes"
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= asked
    assert not {name for name in asked if name.endswith((".bin", ".py", ".pth")) or "consolidated" in name}
    assert again["outcome"] == "unchanged" and again["unchanged"] == [True, True]
    offline = place.run(HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:1")
    assert offline["outcome"] == "unchanged"
    assert place.run(HF_ENDPOINT="http://127.0.0.1:1")["outcome"] == "unchanged", "what is here needs no network"


# ------------------------------------------------------------------------------------------------ a bad line


def test_a_cut_line_is_taken_up_where_it_ended(place: Place) -> None:
    place.hub.cut_after, place.hub.cuts = 1000, 2
    answer = place.run()
    assert answer["outcome"] == "done" and place.weights_asked() == ["", "bytes=1000-", "bytes=2000-"]
    assert place.downloaded == (place.hub.folder / "model.safetensors").read_bytes()
    assert [note.split(" (")[0] for note in answer["notes"]] == [
        "the connection was cut after 1,000 bytes",
        "the connection was cut after 2,000 bytes",
    ]


def test_a_download_that_was_given_up_goes_on_in_another_process(place: Place) -> None:
    place.hub.cut_after, place.hub.cuts = 0, 99  # the hub answers and sends nothing
    given_up = place.run()
    assert given_up["code"] == 4 and "kept" in given_up["hint"]
    place.hub.cut_after, place.hub.cuts = 1500, 1
    place.hub.held = threading.Event()  # the second process is stopped while it waits for the rest
    place.hub.held.set()
    assert place.run("stop at half")["code"] == 130
    place.hub.ranges.clear()
    assert place.run()["outcome"] == "done"
    assert place.weights_asked() and place.weights_asked()[0].startswith("bytes=")
    assert place.downloaded == (place.hub.folder / "model.safetensors").read_bytes()


def test_a_killed_download_leaves_what_came(place: Place) -> None:
    place.hub.held = threading.Event()
    environment = {"PYTHONPATH": IMPORT_PATH, "HF_HOME": str(place.folder / "hf"), "HF_ENDPOINT": place.address}
    command = [sys.executable, "-c", PROGRAM, json.dumps([{"repo": "owner/name"}])]
    process = subprocess.Popen(command, cwd=place.folder, env=environment)
    blobs = place.folder / "hf/hub/models--owner--name/blobs"
    parts = lambda: [path for path in blobs.glob("*.incomplete") if path.stat().st_size]  # noqa: E731
    wait_until(lambda: parts() or process.poll() is not None)
    assert process.poll() is None
    killed(process)
    place.hub.held.set()
    came = parts()[0].stat().st_size
    place.hub.ranges.clear()
    answer = place.run()
    assert answer["outcome"] == "done" and place.weights_asked() == [f"bytes={came}-"]
    assert answer["progress"][0][0] >= came, "what is there counts as done"
    assert not list(blobs.glob("*.incomplete"))


def test_a_hub_that_ignores_ranges_is_read_from_the_start(place: Place) -> None:
    place.hub.cut_after, place.hub.cuts, place.hub.ranges_ignored = 1000, 1, True
    answer = place.run()
    assert answer["outcome"] == "done" and not any("damaged" in note for note in answer["notes"])
    assert place.downloaded == (place.hub.folder / "model.safetensors").read_bytes()


def test_a_file_altered_on_its_way_is_fetched_again_and_refused_when_it_stays_so(place: Place) -> None:
    place.hub.damage = 1
    mended = place.run()
    assert mended["outcome"] == "done" and any("arrived damaged" in note for note in mended["notes"])
    shutil.rmtree(place.folder / "hf")
    place.hub.damage = 9
    answer = place.run()
    assert answer["code"] == 4 and "model.safetensors of owner/name arrives damaged: its sha256" in answer["message"]
    assert "proxy" in answer["hint"] and answer["unchanged"] == [False, False]
    assert not list((place.folder / "hf").rglob("*.incomplete")), "nothing damaged is taken up again"


@pytest.mark.parametrize("by", [-200, 200])
def test_a_hub_that_lies_about_a_size_is_found_out(place: Place, by: int) -> None:
    place.hub.announce["model.safetensors"] = place.size + by
    answer = place.run()
    assert answer["code"] == 4
    assert ("arrives damaged" if by < 0 else f"ended after {place.size:,} of {place.size + by:,} bytes") in answer["message"]
    written = [path.stat().st_size for path in (place.folder / "hf").rglob("*") if path.is_file() and not path.is_symlink()]
    assert max(written) <= place.size, "never more than was announced"


def test_a_file_damaged_in_the_cache_is_fetched_again(place: Place) -> None:
    place.run()
    blob = next((place.folder / "hf/hub/models--owner--name/snapshots" / COMMIT).glob("model.safetensors")).resolve()
    with blob.open("r+b") as file:
        file.truncate(place.size // 2)
    answer = place.run()
    assert answer["outcome"] == "done" and any("damaged in the cache" in note for note in answer["notes"])
    assert place.downloaded == (place.hub.folder / "model.safetensors").read_bytes()


def test_another_snapshot_in_the_cache_does_not_count_as_this_one(place: Place) -> None:
    blobs = place.folder / "hf/hub/models--owner--name/blobs"
    blobs.mkdir(parents=True)
    (blobs / "older").write_bytes(b"x" * 10_000_000)
    assert place.run()["progress"][0][0] == 0


# --------------------------------------------------------------------------------------------- what it answers

TOLD_APART = {
    "owner/nothing": (2, "no repository owner/nothing", "spelling"),
    "owner/gated": (2, "owner/gated is gated", "accept its licence at https://huggingface.co/owner/gated"),
    "owner/licence": (2, "licence of owner/licence is not accepted", "the account the token belongs to"),
    "owner/locked": (2, "licence of owner/locked is not accepted", "accept it at https://huggingface.co/owner/locked"),
    "owner/review": (2, "still in review", "tells when it is granted"),
    "owner/rejected": (2, "have refused access", "choose another"),
    "owner/finegrained": (2, "may not read gated repositories", "public gated repositories"),
    "owner/badtoken": (2, "not a token the hub knows", "settings/tokens"),
    "owner/forbidden": (2, "HF_TOKEN does not open owner/forbidden", "read access"),
    "owner/disabled": (2, "switched owner/disabled off", "another model.repo"),
    "owner/busy": (4, "too many requests", "wait a few minutes"),
    "owner/broken": (4, "the hub failed on owner/broken", "try again"),
    "owner/firewall": (4, "a web page (Guest network: please log in) came", "proxy"),
    "owner/not--a-name": (2, "not a repository name", "model.repo"),
}


@pytest.fixture(scope="module")
def answers(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the step says about each repository, in one process."""
    folder = tmp_path_factory.mktemp("answers")
    models = [{"repo": repo} for repo in TOLD_APART] + [{"repo": "owner/name", "revision": "v9"}, {"local_path": "nowhere"}]
    with serving(repository) as (address, _):
        told = run_models(folder, models, HF_ENDPOINT=address)
    return dict(zip([*TOLD_APART, "revision", "local"], told, strict=True))


@pytest.mark.parametrize("repo", TOLD_APART)
def test_what_the_hub_answers_is_told_apart(answers: dict[str, dict[str, Any]], repo: str) -> None:
    code, message, hint = TOLD_APART[repo]
    answer = answers[repo]
    assert (answer["code"], message in answer["message"], hint in answer["hint"]) == (code, True, True), answer


def test_a_missing_revision_and_a_missing_folder_are_told(answers: dict[str, dict[str, Any]]) -> None:
    revision, local = answers["revision"], answers["local"]
    assert revision["code"] == 2 and "no revision 'v9'" in revision["message"] and "model.revision null" in revision["hint"]
    assert local["code"] == 5 and "nowhere is not there" in local["message"] and "model.local_path" in local["hint"]


def test_a_hub_that_fails_in_passing_is_asked_again(answers: dict[str, dict[str, Any]]) -> None:
    assert len(answers["owner/broken"]["notes"]) == 3 and not answers["owner/nothing"]["notes"]


@pytest.mark.parametrize("what", ["api", "file", "everything", "contents"])
def test_a_proxys_page_is_not_taken_for_a_file(place: Place, what: str) -> None:
    place.hub.page_instead_of = what
    answer = place.run()
    assert answer["code"] == 4 and "a web page" in answer["message"] and "proxy" in answer["hint"]
    blobs = [path for path in (place.folder / "hf").rglob("blobs/*") if path.is_file()]
    assert not blobs


def test_offline_and_not_here_is_a_missing_artifact_with_the_next_command(tmp_path: Path) -> None:
    answer = run_model(tmp_path, {"repo": "owner/name"}, HF_HUB_OFFLINE="1")
    assert answer["code"] == 5 and "HF_HUB_OFFLINE" in answer["message"] and "humigence model download" in answer["hint"]


def test_no_network_and_no_proxy_are_told_apart(tmp_path: Path) -> None:
    answer = run_model(tmp_path, {"repo": "owner/name"}, HF_ENDPOINT="http://127.0.0.1:1")
    assert answer["code"] == 4 and "no connection to the hub" in answer["message"] and "local_path" in answer["hint"]
    with serving(tmp_path) as (address, _):  # answers CONNECT with an error, as a proxy that wants nothing of us
        proxy = address.replace("http://", "http://name:password@")
        told = run_model(tmp_path, {"repo": "owner/name"}, HF_ENDPOINT="https://hub.invalid", HTTPS_PROXY=proxy)
    assert told["code"] == 4 and "the proxy refuses" in told["message"] and "HTTPS_PROXY" in told["hint"]
    assert "password" not in told["message"]


def test_a_token_that_no_header_can_carry_is_a_bad_token(place: Place) -> None:
    answer = place.run(HF_TOKEN="hf_ééé")
    assert answer["code"] == 2 and "not a token the hub knows" in answer["message"]


def test_the_hub_is_asked_for_the_model_and_for_nothing_else(place: Place) -> None:
    place.run(HF_TOKEN="hf_forthehubalone")
    assert place.hub.authorizations == {"Bearer hf_forthehubalone"}
    assert all(path.startswith(("/api/models/owner/name", "/owner/name/resolve/")) for path in place.hub.asked), "no telemetry"


# ------------------------------------------------------------------------------------------------ room, contents


def test_a_repository_without_safetensors_is_refused_before_anything_is_fetched(repository: Path, tmp_path: Path) -> None:
    folder = without(repository, tmp_path, "model.safetensors", "consolidated.safetensors")
    with serving(folder) as (address, hub):
        answer = run_model(tmp_path, {"repo": "owner/name"}, HF_ENDPOINT=address)
    assert answer["code"] == 2 and "only pickled ones" in answer["message"]
    assert not hub.ranges


def test_the_room_on_disk_is_checked_before_anything_is_fetched(place: Place) -> None:
    place.hub.announce["model.safetensors"] = 100 << 20
    answer = place.run("little room")
    assert answer["code"] == 4 and "are needed, 300.0 MiB are free" in answer["message"] and "HF_HOME" in answer["hint"]
    assert not place.hub.ranges


def test_a_cache_that_cannot_be_written_to_is_told(place: Place) -> None:
    (place.folder / "file").write_text("")
    answer = place.run(HF_HOME=str(place.folder / "file" / "hf"))
    assert answer["code"] == 4 and "cannot be written to" in answer["message"] and "HF_HOME" in answer["hint"]


def test_what_was_downloaded_and_is_no_model_is_refused(repository: Path, tmp_path: Path) -> None:
    with serving(without(repository, tmp_path, "tokenizer.json")) as (address, _):
        answer = run_model(tmp_path, {"repo": "owner/name"}, HF_ENDPOINT=address)
    assert answer["code"] == 2 and "no tokenizer" in answer["message"]
