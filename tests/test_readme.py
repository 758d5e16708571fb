"""The README tells what is so."""

from __future__ import annotations

import re

import pytest

from humigence_tui.cli.config import markdown_table
from humigence_tui.cli.main import ENTRIES
from pipeline.runs.events import STEP_NAMES
from pipeline.troubleshooting import catalogue
from tests.benchmarks import performance
from tests.processes import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_settings_is_the_generated_one() -> None:
    shown = README.split("<!-- settings -->\n")[1].split("<!-- end of settings -->")[0]
    assert shown == markdown_table(), "humigence config keys --markdown makes it"


def test_the_table_of_troubles_is_the_generated_one() -> None:
    shown = README.split("<!-- troubles -->\n")[1].split("<!-- end of troubles -->")[0]
    assert shown == catalogue.markdown_table(), "humigence errors --markdown makes it"


def test_the_table_of_performance_is_made_from_what_was_measured() -> None:
    shown = README.split("<!-- performance -->\n")[1].split("<!-- end of performance -->")[0]
    assert shown == performance.table(), "python -m tests.benchmarks.performance makes it"


@pytest.mark.parametrize("name", ENTRIES)
def test_every_command_is_told(name: str) -> None:
    commands = README.split("## Commands")[1].split("### Exit codes")[0]
    assert re.search(rf"`(humigence )?{name}\b", commands)


def test_every_step_is_told_in_its_order() -> None:
    steps = README.split("The eight steps")[1].split("## Quickstart")[0]
    assert tuple(re.findall(r"^\| (\w+) \| ", steps, re.MULTILINE)[1:]) == STEP_NAMES


def test_the_two_main_commands_come_first() -> None:
    assert re.search(r"\A# Humigence\n+```bash\nmake test .*\nmake demo ", README)


def test_every_file_the_readme_names_is_here() -> None:
    for name in re.findall(r"`((?:pipeline|humigence_tui|configs)/[\w/.]+\.(?:py|json))`", README):
        assert (ROOT / name).exists(), name
