"""The documentation tells what is so: generated parts are current, links lead somewhere, files that are named are here."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from humigence_tui.cli.main import ENTRIES
from pipeline.common import errors
from pipeline.config.file import with_value
from pipeline.config.keys import every_key
from pipeline.config.schema import Config
from tests import docs
from tests.processes import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


@pytest.mark.parametrize("part", docs.PARTS, ids=lambda part: part.name)
def test_a_generated_part_is_the_generated_one(part: docs.Part) -> None:
    _, shown, _ = docs.marked(part)
    assert shown == part.text(), "make docs writes it"


def test_every_command_of_the_table_of_controls_is_taken() -> None:
    typed = re.findall(r"`humigence config set ([a-z_.]+) (.+?)` \|", _page("ui"))
    assert {key for key, _ in typed} == {key.name for key in every_key()}
    for key, value in typed:
        with_value(Config(), key, " ".join(shlex.split(value)))


@pytest.mark.parametrize("name", ENTRIES)
def test_every_command_is_told(name: str) -> None:
    commands = _page("commands").split("## Exit codes")[0].split("## When training starts")[0]
    assert re.search(rf"`(humigence )?{name}\b", commands)


def test_every_exit_code_is_told() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.HumigenceError)]
    codes = {str(code) for code in (errors.EXIT_OK, errors.EXIT_BUG, *(kind.exit_code for kind in kinds))}
    told = _page("commands").split("## Exit codes")[1].split("## Environment")[0]
    assert set(re.findall(r"^\| (\d+) \|", told, re.MULTILINE)) == codes


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_a_page_names_is_here(page: Path) -> None:
    named = r"`((?:pipeline|screens|humigence_tui|configs|tests|docs)/[\w/.-]*(?:\.(?:py|json|md|tcss)|/))`"
    for name in re.findall(named, page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_picture_is_shown() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in (ROOT / "docs" / "pictures").iterdir():
        assert f"pictures/{picture.name})" in text, picture.name


def _page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
