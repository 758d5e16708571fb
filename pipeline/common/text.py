"""Text for people: safe to print on a terminal, and numbers with their units.

Data rows, file names, library errors and model answers can hold terminal escape sequences. Whatever is printed passes `safe`
(or `json_text`), which leaves them visible and without effect.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

# C0 and C1 controls, DEL, the marks that reorder text, line separators, lone surrogates (file names that are not UTF-8).
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_GIB = 1 << 30


def safe(text: str, *, lines: bool = False) -> str:
    """`text` with every control character made visible.

    Args:
        lines: keep line breaks and tabs, for text that is printed as a block.
    """
    return _UNSAFE.sub(lambda match: _visible(match[0], lines), text)


def unsafe_dropped(text: str) -> str:
    """`text` without its control characters, in the same number of cells: they have none."""
    return _UNSAFE.sub("", text) if _UNSAFE.search(text) else text


def _visible(character: str, lines: bool) -> str:
    code = ord(character)
    if lines and character in "\n\t":
        return character
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode's pictures of the controls: ␛ for escape
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """JSON that is safe on a terminal and strict: numbers that are not finite become null."""
    text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    # Outside of strings JSON has no control character but the line breaks of its indentation.
    return _UNSAFE.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def duration(seconds: float) -> str:
    """`0.4 s`, `38.2 s`, `13 m 42 s`, `1 h 12 m`, `3 d 4 h`."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 59.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} m" if hours else f"{minutes} m {whole % 60} s"


def size(count: float) -> str:
    """Bytes as `312 B`, `9.1 MiB`, `11.9 GiB`."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit, scale in (("KiB", 1 << 10), ("MiB", 1 << 20)):
        if count < scale * 1023.95:
            return f"{count / scale:.1f} {unit}"
    return f"{count / _GIB:.1f} GiB"


def share_of(part: float, whole: float) -> str:
    """A share in two digits: `0.31 %`, `12 %`; `100 %` is all of it and nothing less."""
    percent = 100 * part / whole
    return f"{percent:.2g} %" if percent < 10 else f"{100 if part >= whole else min(99, round(percent))} %"


def counted(number: float) -> str:
    """A whole number with separators between the thousands: `54,153`."""
    return f"{number:,.0f}" if math.isfinite(number) else "unknown"


def parameters(number: int) -> str:
    """A model's size as its makers say it: `135 M`, `1.7 B`."""
    return f"{number / 1e9:.1f} B" if number >= 999_500_000 else f"{number / 1e6:.0f} M"


def amount(done: float, total: float, unit: str) -> str:
    """How far work is: `5,200 of 8,412 rows`, `812.0 MiB of 2.1 GiB`; `5,200 rows` where the whole is not known (0)."""
    as_text = size if unit == "bytes" else counted
    return as_text(done) + (f" of {as_text(total)}" if total else "") + ("" if unit == "bytes" else f" {unit}")


def loss(value: float | None) -> str:
    """A loss in nats with three decimals; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.3f}" if math.isfinite(value) else "not finite"


def gate_value(value: float | None, unit: str) -> str:
    """What a gate measured, `13.8 %`; a dash where there was no evidence.

    Args:
        unit: what follows the number: "%", or what is counted.
    """
    if value is None:
        return "–"
    return f"{value:{'.1f' if unit.startswith('%') else 'g'}} {unit}" if math.isfinite(value) else "not finite"


def gate_needs(threshold: float, unit: str, at_most: bool) -> str:
    """What a gate asks for: `≥ 70 %`, `≤ 20 %`."""
    return f"{'≤' if at_most else '≥'} {threshold:g} {unit}"
