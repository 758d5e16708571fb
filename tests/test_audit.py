from __future__ import annotations

import json

from tests.audit import judge

CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"], "description": "…"}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (3)"}


def judged(*dependencies: object) -> tuple[bool, str]:
    failed, lines = judge(json.dumps({"dependencies": dependencies, "fixes": []}), "")
    return failed, "\n".join(lines)


def test_a_known_vulnerability_fails_and_names_the_version_that_mends_it() -> None:
    assert judged(CLEAN, BAD) == (True, "b 2: CVE-1, mended in 2.1")


def test_clean_versions_pass() -> None:
    assert judged(CLEAN) == (False, "no known vulnerability in 1 versions")


def test_what_was_not_looked_at_is_never_called_clean() -> None:
    assert judged(CLEAN, UNKNOWN)[1].startswith("1 of 2 versions are unknown to the index: skipped")
    assert judged(UNKNOWN) == (False, "1 of 1 versions are unknown to the index: skipped")


def test_an_index_that_cannot_be_reached_is_said_and_no_failure() -> None:
    failed, lines = judge("", "WARNING: x\nERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed\n")
    assert not failed and lines == [
        "skipped, it gave no report: ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed"
    ]
