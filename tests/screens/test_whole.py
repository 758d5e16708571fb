"""Nothing that matters is cut, at any width people have: each screen with the longest real names."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import Config
from screens.frame.machine_snapshot import Machine
from screens.frame.messages import MachineNews
from tests.pilot import Records, lines_of, shown
from tests.screenshots import machine

WIDTHS = ((80, 24), (100, 30), (120, 36), (160, 48))
PROJECT = "customer-support-assistant-2026-q4"
GPU = "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition"
# Of a key that asks; of the project's name, which is what gives way.
_MEANT = re.compile(r"(stop|copy)…|customer-support-[a-z0-9 ▸-]*…|\.\.\.|…\"|\"…")


def _machine() -> Machine:
    made = machine()
    gpu = made.gpus[0]
    return replace(made, gpus=(replace(gpu, reading=replace(gpu.reading, name=GPU)),))


@pytest.mark.parametrize("screen", ["run", "results", "compare", "wizard"])
async def test_nothing_is_cut(records: Records, workspace: Path, screen: str) -> None:
    if screen == "wizard":
        arguments: dict[str, Any] = {"config": Config(project=PROJECT)}
    else:
        run = records.write({"run": "running"}.get(screen, "finished"), project=PROJECT)
        arguments = {"runs": (run, records.write("gate_failed", project="b"))} if screen == "compare" else {"run": run}
    app = records.app(screen, **arguments)
    cut = []
    async with app.run_test(size=WIDTHS[0]) as pilot:
        await shown(pilot)
        for size in WIDTHS:
            await pilot.resize_terminal(*size)
            app.post_message(MachineNews(_machine()))
            await pilot.pause(0.3)
            cut += [f"{size[0]}: {line.strip()}" for line in lines_of(app) if "…" in _MEANT.sub("", line)]
    assert not cut, "\n".join(cut)
