"""The README tells what is so, first things first."""

from __future__ import annotations

import re

from pipeline.runs.events import STEP_NAMES
from tests.processes import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_step_is_told_in_its_order() -> None:
    steps = README.split("The eight steps")[1].split("## Quickstart")[0]
    assert tuple(re.findall(r"^\| (\w+) \| ", steps, re.MULTILINE)[1:]) == STEP_NAMES


def test_the_two_main_commands_come_first() -> None:
    assert re.search(r"\A# Humigence\n+```bash\nmake test .*\nmake demo ", README)


def test_a_newcomer_can_read_it_at_one_go() -> None:
    assert README.count("\n") < 150
    assert len(re.findall(r"!\[", README)) == 1


def test_it_leads_to_every_page_of_the_documentation() -> None:
    pages = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")}
    assert pages <= set(re.findall(r"\]\(([^)#]+)\)", README))
