"""Why the plan is as it is: a line for each number, with its reason; where there is no plan, why, and what to do."""

from __future__ import annotations

import textwrap

from rich.cells import cell_len
from textual.content import Content

from pipeline.common.text import safe
from pipeline.planning.plan import checkpointing_text, kernels_text
from screens.setup.cost_preview import Outlook
from screens.setup.plan_facts import Fact, numbers

_COLUMN = 15


def reasons(outlook: Outlook, width: int) -> Content:
    """The reasons of the plan, a line each; where there is none, why, and what to do."""
    if outlook.plan is None:
        lines = [Content.styled(safe(outlook.problem, lines=True), "$warning")] if outlook.problem else []
        return Content("\n").join([*lines, *([Content.styled(safe(outlook.hint), "$dim")] if outlook.hint else [])])
    plan = outlook.plan
    facts = [
        *numbers(plan),
        *([Fact("packing", "off", plan.reasons["packing"])] if "packing" in plan.reasons else []),
        Fact("checkpointing", checkpointing_text(outlook.plan), outlook.plan.reasons.get("gradient_checkpointing", "")),
        Fact(
            "computing in",
            f"{outlook.plan.compute_dtype}, {kernels_text(outlook.plan)}",
            outlook.plan.reasons.get("kernels", ""),
        ),
    ]
    return Content("\n").join(_line(fact, width) for fact in facts)


def _line(fact: Fact, width: int) -> Content:
    """The reason beside its number, or below it where there is no room."""
    first = Content.assemble((f"{fact.name:<{_COLUMN}}", "$dim"), safe(fact.value))
    if not fact.reason:
        return first
    reason = safe(fact.reason)
    if first.cell_length + 3 + cell_len(reason) <= width:
        return first + Content.styled(f"   {reason}", "$dim")
    below = textwrap.wrap(reason, max(20, width - _COLUMN))
    return first + Content.styled("".join(f"\n{' ' * _COLUMN}{line}" for line in below), "$dim")
