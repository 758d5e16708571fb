"""The memory a config needs, part by part, against what the device has free; and the plan in one line."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Size
from textual.reactive import reactive
from textual.widget import Widget

from pipeline.common.text import safe
from pipeline.system.gpu import GIB
from screens.setup.cost_preview import Outlook, Verdict, plan_line

# In the order of the bar: what stands all the time first, what comes and goes last. Shades, not colours: those are verdicts.
PARTS: dict[str, tuple[str, str]] = {
    "context": ("runtime", "█"),
    "weights": ("weights", "█"),
    "adapter": ("adapter", "▓"),
    "optimizer": ("optimizer", "▓"),
    "activations": ("activations", "▒"),
    "logits": ("logits", "░"),
}
_VERDICTS: dict[Verdict, tuple[str, str]] = {
    "fits": ("✔ fits", "$success"),
    "tight": ("▲ tight", "$warning"),
    "too much": ("✘ too much", "$error"),
    "unknown": ("", ""),
}
_LABEL = 14
_VERDICT_WIDTH = len("✘ too much")


def columns(memory: dict[str, int], free_bytes: int, width: int) -> list[tuple[str, int]]:
    """(part, columns) of a bar of `width` columns that stands for the free memory, or for the need where that is more.

    The columns are those of the running total, so that many small parts do not add up to a bar too long.
    """
    scale = max(free_bytes, sum(memory.values()), 1)
    result, done, used = [], 0, 0
    for part in PARTS:
        done += memory.get(part, 0)
        upto = round(width * done / scale)
        result.append((part, upto - used))
        used = upto
    return result


def gib(count: float) -> str:
    return f"{count / GIB:.1f}"


class MemoryBar(Widget):
    """Narrow: the bar, its parts, the plan, a line each. Tall: a line for each part."""

    DEFAULT_CSS = """
    MemoryBar { height: auto; width: 1fr; }
    """

    outlook: reactive[Outlook | None] = reactive(None)
    tall: reactive[bool] = reactive(False, layout=True)

    def __init__(self, *, with_plan: bool = True, id: str | None = None) -> None:
        super().__init__(id=id)
        self._with_plan = with_plan

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(PARTS) + 5 if self.tall else 2 + self._with_plan

    def render(self) -> Content:
        outlook = self.outlook or Outlook()
        width = self.content_size.width
        if self.tall:
            return tall(outlook, width)
        lines = compact(outlook, width)
        return Content("\n").join(lines if self._with_plan else lines[:2])


# -------------------------------------------------------------------------------------------------------- narrow


def compact(outlook: Outlook, width: int) -> list[Content]:
    """Three lines: the bar with its verdict, its parts, the plan."""
    figure = f"{gib(outlook.total_bytes):>5} of {gib(outlook.free_bytes)} GiB" if outlook.memory else ""
    verdict = _verdict(outlook)
    room = width - _LABEL - len(figure) - _VERDICT_WIDTH - 6
    first = Content.assemble((_name(outlook), "$dim"), _bar(outlook, room), "  ", figure, "  ", verdict)
    second = _legend(outlook, width - 2)
    return [first, Content.assemble("  ", second), plan_content(outlook, width)]


def _name(outlook: Outlook) -> str:
    on_gpu = outlook.device is not None and outlook.device.kind == "cuda"
    return f"  {'GPU memory' if on_gpu else 'Memory':<{_LABEL - 2}}"


def _bar(outlook: Outlook, width: int) -> Content:
    if not outlook.memory:
        return Content.styled("·" * max(0, width), "$faint")
    parts = columns(outlook.memory, outlook.free_bytes, max(0, width))
    used = sum(count for _, count in parts)
    pieces = [(PARTS[part][1] * count, "$foreground" if part != "context" else "$dim") for part, count in parts]
    return Content.assemble(*pieces, ("·" * (width - used), "$faint"))


def _verdict(outlook: Outlook) -> Content:
    text, colour = _VERDICTS[outlook.verdict]
    return Content.styled(text, f"bold {colour}" if colour else "")


def _legend(outlook: Outlook, width: int) -> Content:
    if not outlook.memory:
        return Content.styled("shown once the sizes of the model are known", "$faint") if outlook.problem else Content("")
    shown = [part for part in PARTS if part != "context"] + ["context"]
    items = [Content.assemble((f"{PARTS[part][0]} ", "$dim"), gib(outlook.memory.get(part, 0))) for part in shown]
    line = Content(" ").join(items)
    loose = Content("   ").join(items)
    return loose if loose.cell_length <= width else line.truncate(width, ellipsis=True)


def plan_content(outlook: Outlook, width: int) -> Content:
    """`Plan   micro-batch …`, or why there is none."""
    label = Content.styled(f"  {'Plan':<{_LABEL - 2}}", "$dim")
    if outlook.plan is not None:
        return (label + Content(plan_line(outlook.plan))).truncate(width, ellipsis=True)
    text = safe(outlook.problem.splitlines()[0]) if outlook.problem else "…"
    return (label + Content.styled(text, "$warning" if outlook.problem else "$faint")).truncate(width, ellipsis=True)


# ---------------------------------------------------------------------------------------------------------- wide


def tall(outlook: Outlook, width: int) -> Content:
    """A line for each part, its bar beside it to the same scale."""
    lines = [_headline(outlook, width), _bar(outlook, width), Content("")]
    scale = max(outlook.free_bytes, outlook.total_bytes, 1)
    room = max(0, width - 26)
    for part, (name, shade) in PARTS.items():
        count = outlook.memory.get(part, 0)
        bar = shade * (max(1, round(room * count / scale)) if count else 0)
        value = f"{gib(count):>6} GiB" if outlook.memory else ""
        lines.append(Content.assemble((f"  {name:<12}", "$dim"), value, "  ", (bar, "$dim" if part == "context" else "")))
    lines.append(Content(""))
    lines.append(_sum(outlook))
    return Content("\n").join(lines)


def _headline(outlook: Outlook, width: int) -> Content:
    name = _name(outlook).strip()
    verdict = _verdict(outlook)
    return Content.assemble((name, "bold"), " " * max(1, width - len(name) - verdict.cell_length), verdict)


def _sum(outlook: Outlook) -> Content:
    if not outlook.memory:
        return _legend(outlook, 60)
    free = f"   of {gib(outlook.free_bytes)} GiB free" if outlook.free_bytes else "   the device does not tell what is free"
    return Content.assemble(("  at the peak ", "$dim"), (f"{gib(outlook.total_bytes):>5} GiB", "bold"), (free, "$dim"))
