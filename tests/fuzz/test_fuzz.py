"""Whatever a file holds: an answer or an error in words, exit code 0 or 2, nothing half-written, nothing a terminal obeys."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humigence_tui.cli.main import main
from pipeline.base_model import locate
from pipeline.base_model.gguf_header import read_header
from pipeline.common.errors import BadInput
from pipeline.config.schema import Config
from pipeline.dataset.readers.file_check import require_readable
from pipeline.dataset.readers.reader import RawRow
from pipeline.dataset.readers.registry import reader_of
from pipeline.dataset.row import conversation_of
from pipeline.dataset.schemas.registry import fitting
from pipeline.dataset.sniff import reader_for
from pipeline.evaluation.answer_checks import read_prompts
from pipeline.tokenization import template_process
from pipeline.tokenization.template_process import IsolatedTemplate, Refused
from tests.corpus.desk import half_written, write_config
from tests.fuzz.cases import (
    CASES,
    CONTAINER_FILES,
    KNOWN_KEYS,
    KNOWN_ROW,
    MOST_ROWS,
    OASST,
    PROPERTIES,
    ROW,
    VALUE,
    configs,
    many,
    originals,
    spoilt,
)
from tests.hostile_templates import CONSTRUCTS, HOSTILE
from tests.hostile_text import control_characters


@contextlib.contextmanager
def room() -> Iterator[Path]:
    """An empty folder that is the current one."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and words of a command, after what has to hold of every one."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    told = out.getvalue() + err.getvalue()
    assert code in (0, 2), told
    assert "Traceback" not in told and not control_characters(told), told
    return code, told


def prepared(root: Path, model: Path, name: str) -> None:
    write_config(root, model, name, max_seq_len=64, window_overlap=8)
    code, told = run("preprocess", "--config", "c.json")
    assert code == 0 or name in told, told
    assert half_written(root) == []
    assert bool(list((root / "data" / "processed").glob("*"))) == (code == 0)
    before, told = run("validate", "--config", "c.json")
    assert before == 0 or code == 2, f"validate refuses what preprocess takes: {told}"


@many
@given(data=spoilt(originals("data")))
def test_any_data_file(data: bytes, tiny_chatml_model: Path) -> None:
    with room() as root:
        (root / "rows.jsonl").write_bytes(data)
        prepared(root, tiny_chatml_model, "rows.jsonl")


@many
@given(data=spoilt(CONTAINER_FILES), name=st.sampled_from(["rows", "rows.csv", "rows.txt", "rows.json"]))
def test_any_kind_of_data_file(data: bytes, name: str) -> None:
    """Rows, or an error in words; every row is found again where its position says."""
    with room() as root:
        path = root / name
        path.write_bytes(data)
        try:
            require_readable(path)
            reader = reader_of(path)
            rows = list(islice(reader.rows(path), MOST_ROWS))
            with reader.access(path) as access:
                again = [access.row_at(*place) for place in islice(reader.positions(path), MOST_ROWS)]
        except BadInput as error:
            assert name in error.message
            return
        assert all(row.problem or row.row or reader.unit == "row" for row in rows)
        lost = [row for row in rows if "is damaged, what follows is lost" in row.problem]
        assert [row.row for row in again] == [row.row for row in rows if row not in lost]
        assert len(rows) == MOST_ROWS or not rows or rows[-1].number <= reader.count(path)


@many
@given(rows=VALUE.map(lambda value: [value]) | ROW.flatmap(lambda row: ROW.map(lambda other: [row, other, row])))
def test_any_rows(rows: list[Any], tiny_chatml_model: Path) -> None:
    with room() as root:
        (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        prepared(root, tiny_chatml_model, "rows.jsonl")


@many
@given(row=KNOWN_ROW, columns=st.dictionaries(st.sampled_from(["prompt", "completion", "text"]), KNOWN_KEYS, max_size=2))
def test_any_row_of_keys_that_schemas_know(row: dict[str, Any], columns: dict[str, str]) -> None:
    """What it says, or the reason; the row stays as it was, and its reason holds nothing of what it says."""
    before = json.dumps(row, sort_keys=True, default=str)
    for pairs in ((), tuple(f"{name}={column}" for name, column in columns.items())):
        data = Config.model_validate({"data": {"columns": pairs, "schema": fitting(row) or "chat_messages"}})
        with contextlib.suppress(BadInput):
            said = conversation_of(RawRow(1, row), data)
            assert said.conversation.messages or said.conversation.text
    assert json.dumps(row, sort_keys=True, default=str) == before


@many
@given(messages=OASST, paths=st.sampled_from(["best", "all"]))
def test_any_messages_of_openassistant(messages: list[dict[str, Any]], paths: str) -> None:
    """Each is in a path, or there is a reason; an answer is trained at most once."""
    with room() as root:
        (root / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in messages))
        config = Config.model_validate({"data": {"schema": "oasst", "oasst": {"paths": paths}}})
        with contextlib.suppress(BadInput):
            rows = list(islice(reader_for(config, root / "rows.jsonl").rows(root / "rows.jsonl"), MOST_ROWS))
            # A reason for each that is in none, and one for each of a name that is there already.
            assert len(rows) <= 2 * len(messages)
            for raw in rows:
                with contextlib.suppress(BadInput):
                    said = [each["content"] for each in conversation_of(raw, config).conversation.messages]
                    assert len(said) <= len(messages)


@many
@given(data=spoilt(originals("configs")))
def test_any_config_file(data: bytes) -> None:
    with room() as root:
        (root / "c.json").write_bytes(data)
        code, told = run("config", "view", "--config", "c.json")
        assert code == 0 or "c.json" in told, told
        assert os.listdir(root) == ["c.json"]


@many
@given(document=configs())
def test_any_settings(document: dict[str, Any]) -> None:
    with room() as root:
        (root / "c.json").write_text(json.dumps(document))
        code, told = run("config", "view", "--config", "c.json")
        assert code == 0 or "c.json" in told, told
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            looked = main(["validate", "--config", "c.json"])
        assert looked in (2, 4, 5) and "Traceback" not in err.getvalue() and "bug" not in err.getvalue(), err.getvalue()


@many
@given(data=spoilt([b'{"prompt": "Why?", "must_mention": ["a"]}\n{"prompt": "What?"}\n', b'[{"prompt": "Why?"}]']))
def test_any_curated_prompts(data: bytes) -> None:
    with room() as root:
        (root / "prompts.jsonl").write_bytes(data)
        try:
            prompts = read_prompts(root / "prompts.jsonl")
        except BadInput as error:
            assert "prompts.jsonl" in error.message
        else:
            assert all(prompt.prompt.strip() for prompt in prompts)


@many
@given(data=spoilt([b"<weights>", b"<config>", b"<tokenizer>"]))
def test_any_model_folder(data: bytes, tiny_chatml_model: Path) -> None:
    names = {b"<w": "model.safetensors", b"<c": "config.json", b"<t": "tokenizer_config.json"}
    name = names.get(data[:2], "model.safetensors.index.json")
    with room() as root:
        folder = root / "model"
        shutil.copytree(tiny_chatml_model, folder)
        content = (folder / name).read_bytes() if (folder / name).exists() else b"{}"
        (folder / name).write_bytes(content[: len(content) // 2] + data + content[len(content) // 2 + len(data) % 7 :])
        problems = locate.problems_of(folder)
        assert all(isinstance(problem, str) and problem for problem in problems)
        with contextlib.suppress(BadInput):
            locate.base_model_at(folder).weights_fingerprint()


_GGUF = (
    b"GGUF\x03\0\0\0" + b"\x01" + b"\0" * 7 + b"\x02" + b"\0" * 7
    + b"\x14" + b"\0" * 7 + b"general.architecture" + b"\x08\0\0\0" + b"\x05" + b"\0" * 7 + b"llama"
    + b"\x15" + b"\0" * 7 + b"tokenizer.ggml.tokens" + b"\x09\0\0\0"
    + b"\x08\0\0\0" + b"\x01" + b"\0" * 7 + b"\x01" + b"\0" * 7 + b"a"
    + b"\x11" + b"\0" * 7 + b"token_embd.weight" + b"\x02\0\0\0" + (b"\x40" + b"\0" * 7) * 2 + b"\0" * 12 + b"\0" * 64
)  # fmt: skip


@many
@given(data=spoilt([_GGUF]))
def test_any_gguf_file(data: bytes) -> None:
    with room() as root:
        (root / "x.gguf").write_bytes(data)
        with contextlib.suppress(BadInput):
            read_header(root / "x.gguf")


@many
@given(data=spoilt([source.encode() for source in (*CONSTRUCTS, *HOSTILE.values()) if len(source) < 2000]))
def test_any_chat_template(data: bytes) -> None:
    messages = [{"role": "user", "content": "Which one?"}, {"role": "assistant", "content": "This\none."}]
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Refused):
        patch.setattr(template_process, "MOST_SECONDS", 0.1)
        template = IsolatedTemplate(data.decode("utf-8", "replace"), {})
        assert len(template.render(messages, answer=True)) < 1 << 26


def test_the_cases_are_divided_among_all_properties() -> None:
    assert CASES >= PROPERTIES == sum(name.startswith("test_any_") for name in globals())
