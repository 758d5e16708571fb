"""A data set fetched from a small hub on the loopback interface, in a process of its own: the client reads its settings once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.pipeline.steps.hub import COMMIT, Hub, serving
from tests.processes import IMPORT_PATH

PROGRAM = """
import json, sys
from pathlib import Path
from pipeline.common.errors import HumigenceError
from pipeline.config.schema import Config
from pipeline.dataset import inspection, processed, source
from pipeline.dataset.hub import rows
from pipeline.hub import fetch
from pipeline.runs.context import StepContext
from pipeline.runs.folders import Workspace
fetch.WAITS_S = fetch.FIRST_WAITS_S = (0.0,) * 3
def one(what, hub):
    ctx = StepContext(Config.model_validate({"data": {"source": "hub", "hub": hub}}), Workspace(Path.cwd()))
    try:
        if what == "fetch":
            found = rows.fetch(ctx, ctx.config.data.hub)
        elif what == "ask":
            return rows.require_fetchable(ctx.config.data.hub)
        else:
            found = rows.require_here(ctx.config.data.hub)
        told = inspection.inspect(found.path, ctx.config)
        return {**found.to_json(), "rows": told.used, "name": source.name_of(ctx.config), "beside": found.beside,
                "digest": processed.raw_digest_now(processed.raw_file(ctx.config, ctx.workspace))}
    except HumigenceError as error:
        return {"code": error.exit_code, "message": error.message, "hint": error.hint}
print(json.dumps([one(*each) for each in json.loads(sys.argv[1])]))
"""


def done(folder: Path, asked: list[tuple[str, dict[str, Any]]], **environ: str) -> list[dict[str, Any]]:
    environment = {"PYTHONPATH": IMPORT_PATH, "PATH": "/usr/bin:/bin", "HF_HOME": str(folder / "hf"), "NO_PROXY": "127.0.0.1"}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(asked)],
        cwd=folder, env=environment | environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    read: list[dict[str, Any]] = json.loads(ended.stdout.splitlines()[-1])
    return read


def rows_at(path: Path, *answers: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"instruction": [f"What is {each}?" for each in answers], "output": list(answers)}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Rows of two splits, one of them in two files; a script and a pickle beside them."""
    folder = tmp_path / "repository"
    rows_at(folder / "data/train-00000-of-00002.parquet", "one", "two")
    rows_at(folder / "data/train-00001-of-00002.parquet", "three")
    rows_at(folder / "data/test-00000-of-00001.parquet", "four")
    for name in ("name.py", "data/rows.pkl", "README.md"):
        (folder / name).write_text("raise SystemExit('run')")
    return folder


NAMED = {"repo": "owner/name"}


def contents_asked(hub: Hub) -> list[str]:
    return [name for name, _ in hub.ranges]


def test_a_split_is_fetched_once_pinned_and_nothing_else_is(repository: Path, tmp_path: Path) -> None:
    with serving(repository) as (address, hub):
        hub.card = {"license": "cc-by-4.0"}
        test = {**NAMED, "split": "test"}
        first, again, other, here = done(
            tmp_path, [("fetch", NAMED), ("here", NAMED), ("fetch", test), ("here", test)], HF_ENDPOINT=address
        )
    assert (first["rows"], other["rows"]) == (3, 1)
    assert (first["commit"], first["licence"], first["split"]) == (COMMIT, "cc-by-4.0", "train")
    assert first["name"] == f"owner/name, train, at {COMMIT[:12]}" and first["beside"] == "splits test"
    assert again == first and here == other and first["digest"] != other["digest"]
    shards = {f"data/{name}.parquet" for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")}
    assert set(contents_asked(hub)) == shards, "only rows of the splits asked for, no script, no pickle"
    offline = done(tmp_path, [("here", NAMED), ("here", test)], HF_HUB_OFFLINE="1")
    assert [each["digest"] for each in offline] == [first["digest"], other["digest"]]


def test_the_rows_stay_those_of_their_commit_until_they_are_fetched_again(repository: Path, tmp_path: Path) -> None:
    with serving(repository) as (address, hub):
        (first,) = done(tmp_path, [("fetch", NAMED)], HF_ENDPOINT=address)
        hub.commit = "b" * 40
        rows_at(repository / "data/train-00001-of-00002.parquet", "three", "five")
        (kept,) = done(tmp_path, [("here", NAMED)], HF_ENDPOINT=address)
        pinned, newest = done(tmp_path, [("here", {**NAMED, "revision": COMMIT}), ("fetch", NAMED)], HF_ENDPOINT=address)
    assert kept == first and newest["rows"] == 4 and newest["commit"] == "b" * 40
    assert newest["digest"] != first["digest"] and pinned["digest"] == first["digest"]


def test_a_cut_download_goes_on_where_it_ended(repository: Path, tmp_path: Path) -> None:
    with serving(repository) as (address, hub):
        hub.cut_after, hub.cuts = 200, 1
        (fetched,) = done(tmp_path, [("fetch", NAMED)], HF_ENDPOINT=address)
    assert fetched["rows"] == 3 and "bytes=200-" in [wish for _, wish in hub.ranges]


def test_what_stands_between_a_person_and_the_rows_is_said_of_the_data_set(repository: Path, tmp_path: Path) -> None:
    asked = ["owner/gated", "owner/locked", "owner/nothing", "not a name"]
    with serving(repository) as (address, hub):
        told = done(
            tmp_path,
            [*(("ask", {"repo": each}) for each in asked), ("ask", {}), ("ask", {**NAMED, "split": "dev"}), ("ask", NAMED)],
            HF_ENDPOINT=address,
        )
        fetched = contents_asked(hub)
    gated, locked, nothing, no_name, unnamed, no_split, in_order = told
    assert gated["message"] == "data.hub.repo: owner/gated is gated"
    assert gated["hint"].startswith("accept its licence at https://huggingface.co/datasets/owner/gated, ")
    assert "data.hub.repo: the licence of owner/locked" in locked["message"]
    assert nothing["message"] == "data.hub.repo: the hub has no data set owner/nothing, or it is private"
    assert "data.hub.repo: 'not a name' is not a repository name" in no_name["message"]
    assert "no data set is named" in unnamed["message"] and "has none called 'dev': test, train" in no_split["message"]
    assert in_order is None and fetched == []


def test_without_a_network_the_command_is_said(tmp_path: Path) -> None:
    offline = done(tmp_path, [("fetch", NAMED), ("ask", NAMED)], HF_HUB_OFFLINE="1")
    (missing,) = done(tmp_path, [("here", NAMED)])
    assert [each["code"] for each in (*offline, missing)] == [5, 5, 5]
    assert all("HF_HUB_OFFLINE is set" in each["message"] for each in offline)
    assert missing["hint"] == "humigence data download"
