"""`python -m tests.audit constraints.txt`: known vulnerabilities of the exact versions, as pip-audit finds them in the index.

pip-audit lives in an environment of its own beside ours, so that looking at the versions adds none to them. Where the index
cannot be reached, or tells nothing of these versions, that is said and is no failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, NamedTuple

PIP_AUDIT = "pip-audit==2.10.1"


class Verdict(NamedTuple):
    """`lines` are for a person; `failed` when a version has a known vulnerability."""

    failed: bool
    lines: list[str]


def main(arguments: list[str]) -> int:
    tool = Path(sys.prefix) / "audit" / "bin" / "pip-audit"
    if not tool.exists() and not _installed(tool.parent.parent):
        print("pip-audit: skipped, it cannot be installed: the package index is not reachable")
        return 0
    verdict = judge(*_audited(tool, arguments[0]))
    print("\n".join(f"pip-audit: {line}" for line in verdict.lines))
    return int(verdict.failed)


def _installed(folder: Path) -> bool:
    venv.create(folder, with_pip=True)
    command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PIP_AUDIT]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _audited(tool: Path, constraints: str) -> tuple[str, str]:
    """What pip-audit prints on its two streams. Every version is exact, so nothing has to be resolved or installed."""
    command = [tool, "--requirement", constraints, "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr


def judge(report: str, complaint: str) -> Verdict:
    """What pip-audit's answer means."""
    try:
        dependencies: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        return Verdict(False, [f"skipped, it gave no report: {(complaint.strip().splitlines() or ['no reason'])[-1]}"])
    looked_at = [each for each in dependencies if "skip_reason" not in each]
    found = [(each, vulnerability) for each in looked_at for vulnerability in each["vulns"]]
    lines = [_line(each, vulnerability) for each, vulnerability in found]
    if len(looked_at) < len(dependencies):
        lines.append(f"{len(dependencies) - len(looked_at)} of {len(dependencies)} versions are unknown to the index: skipped")
    if looked_at and not found:
        lines.append(f"no known vulnerability in {len(looked_at)} versions")
    return Verdict(bool(found), lines)


def _line(dependency: dict[str, Any], vulnerability: dict[str, Any]) -> str:
    mended = ", ".join(vulnerability["fix_versions"]) or "no version yet"
    return f"{dependency['name']} {dependency['version']}: {vulnerability['id']}, mended in {mended}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
