"""The machine on screens: whatever is known of it, at whatever width."""

from __future__ import annotations

import pytest

from screens.run.gpu_panel import machine_line, machine_lines
from tests.pilot import SIZES, Records, shown, text_of, until
from tests.screenshots import machine


@pytest.mark.parametrize("width", [0, 1, 5, 9, 10, 11, 20, 38, 80, 200])
def test_no_line_is_wider_than_its_place(width: int) -> None:
    lines = [*machine_lines(machine(), width, pid=41822), machine_line(machine(), width)]
    if width >= 38:
        assert all(line.cell_length <= width for line in lines)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("screen", ["home", "run"])
async def test_a_gpu_and_who_holds_its_memory_is_seen(records: Records, screen: str, size: tuple[int, int]) -> None:
    from screens.frame.messages import MachineNews

    run = records.write("running")
    app = records.app(screen, **({"run": run} if screen == "run" else {}))
    async with app.run_test(size=size) as pilot:
        await shown(pilot)
        if app.threads:
            app.threads.machine.close()  # the real machine is not shown
        app.post_message(MachineNews(machine()))
        await until(pilot, lambda: "RTX 4080" in text_of(app) and "12.3/16.0 GiB" in text_of(app))
        if size[0] == 160:
            await until(pilot, lambda: "python 41822" in text_of(app) and "271/320 W" in text_of(app))
