"""What of a package is served, and what is made first."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from humigence_tui.cli import serve as module
from pipeline.base_model.locate import base_model_at
from pipeline.common.errors import BadInput
from pipeline.export.gguf.write import Made, write_gguf
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests.pipeline.export.gguf.test_families_exported import made
from tests.pipeline.export.made import package_of, write


class Process:
    def wait(self) -> int:
        raise KeyboardInterrupt


class Running:
    address, process = "http://127.0.0.1:1", Process()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the server was started with."""
    found = []

    @contextmanager
    def serving(what: Any) -> Any:
        found.append(what)
        yield Running()

    monkeypatch.setattr(module, "serving", serving)
    monkeypatch.delenv("HUMIGENCE_TOKEN", raising=False)
    return found


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a base that is a GGUF file, with the adapter's GGUF file and the whole model in 4 bits."""
    place = tmp_path_factory.mktemp("served")
    folder, adapter = made(place, "smollm2")
    file = place / "base.gguf"
    write_gguf(file, folder, None, ChatTokenizer.load(folder), Made("base"), "q8_0", lambda _: None)
    return write(place, package_of(place, base_model_at(file), adapter, "peft_adapter", "gguf_q4_0", "gguf_lora"))


def test_a_packages_file_is_served_and_the_adapters_beside_its_base_where_it_is_asked_for(
    package: Path, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    module.serve(str(package))
    assert served[0].model.endswith("gguf_q4_0/made-q4_0.gguf") and not served[0].lora and served[0].token == ""
    assert served[0].context == 256, "as long as the model knows"
    module.serve(str(package), format_name="gguf_lora")
    assert served[1].model.endswith("base.gguf") and served[1].lora.endswith("gguf_lora/made-lora.gguf")
    assert served[1].template == (package / "chat_template.jinja").read_text()
    assert capsys.readouterr().out == "http://127.0.0.1:1/v1\n" * 2


def test_another_address_gets_a_token_that_is_printed(
    package: Path, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    module.serve(str(package), host="0.0.0.0")
    token = served[0].token
    assert len(token) >= 24 and f"Authorization: Bearer {token}" in capsys.readouterr().out
    module.serve(str(package), host="0.0.0.0", token="mine")
    assert served[1].token == "mine"


def test_what_is_no_gguf_file_is_not_served(package: Path, served: list[Any], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="merged is no GGUF file"):
        module.serve(str(package), format_name="merged")
    with pytest.raises(BadInput, match="is not there"):
        module.serve(str(tmp_path / "gone.gguf"))
    assert not served


def test_a_file_that_is_missing_is_made_first_and_its_room_and_time_are_said(
    package: Path, served: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    class Run:
        run_id = json.loads((package / "humigence.json").read_text())["run_id"]

        def load_config(self) -> Any:
            return package_of(package, base_model_at(package.parent.parent / "base.gguf"), package).config.model_copy(
                update={"project": package.name}
            )

    def run_step(name: str, *rest: Any) -> None:
        asked.append((name, rest[3](Run().load_config()).export.formats))

    monkeypatch.chdir(package.parent.parent)
    monkeypatch.setattr(module, "run_step", run_step)
    monkeypatch.setattr(module, "run_of", lambda *_: Run())
    monkeypatch.setattr(
        "pipeline.base_model.locate.require_base_model", lambda *_: base_model_at(package.parent.parent / "base.gguf")
    )
    with pytest.raises(BadInput, match="holds no GGUF file"):  # the step makes nothing here
        module.serve("a-run", format_name="gguf_q8_0")
    assert asked == [("pack", ("peft_adapter", "gguf_q8_0"))]
    said = capsys.readouterr().err
    assert "gguf_q8_0 is made in" in said and "min), once" in said and not served
