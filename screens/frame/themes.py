"""The looks of the app: dark, light, and one for terminals with sixteen colours.

`$accent` is for focus and nothing else; `$success`, `$warning` and `$error` are verdicts and nothing else. Charts have colours of
their own, distinguished by people with any kind of colour blindness (after Okabe and Ito, and Tol) and of differing brightness.
"""

from __future__ import annotations

from dataclasses import replace

from textual.theme import Theme

_DARK = Theme(
    name="humigence-dark",
    primary="#a99cf0",
    accent="#a99cf0",
    success="#6cc287",
    warning="#e2b04a",
    error="#ef7168",
    foreground="#d3d7de",
    background="#14161b",
    surface="#14161b",
    panel="#1b1e25",
    variables={
        "dim": "#8b93a1",
        "faint": "#4b515d",
        "rule": "#30343d",
        "cursor-line": "#262a38",
        "chart-dots": "#56687c",
        "chart-line": "#6cb8ee",
        "chart-held": "#e79ac6",
        "tint": "#7fd0c3",
        "series-1": "#167bb7", "series-2": "#ef9bcd", "series-3": "#d8ca7c",
        "series-4": "#69bb93", "series-5": "#b69efa", "series-6": "#f2f2f2",
        "block-cursor-background": "#262a38", "block-cursor-foreground": "#f1f2f5", "block-cursor-text-style": "none",
        "input-selection-background": "#a99cf0 30%",
        "scrollbar": "#30343d", "scrollbar-hover": "#4b515d", "scrollbar-active": "#a99cf0",
        "scrollbar-background": "#14161b", "scrollbar-background-hover": "#14161b", "scrollbar-background-active": "#14161b",
    },
)  # fmt: skip

_LIGHT = Theme(
    name="humigence-light",
    primary="#5a46b5",
    accent="#5a46b5",
    success="#1c7a3d",
    warning="#8f6300",
    error="#b3261e",
    foreground="#24272d",
    background="#fbfaf7",
    surface="#fbfaf7",
    panel="#f1efe9",
    dark=False,
    variables={
        "dim": "#646b76",
        "faint": "#a6abb4",
        "rule": "#d8d5cc",
        "cursor-line": "#e6e2f5",
        "chart-dots": "#a9bdd0",
        "chart-line": "#0b6aa8",
        "chart-held": "#a83279",
        "tint": "#0f766a",
        "series-1": "#4385c6", "series-2": "#9e2c78", "series-3": "#86730b",
        "series-4": "#146246", "series-5": "#6a4fc7", "series-6": "#24272d",
        "block-cursor-background": "#e6e2f5", "block-cursor-foreground": "#16181c", "block-cursor-text-style": "none",
        "input-selection-background": "#5a46b5 25%",
        "scrollbar": "#d8d5cc", "scrollbar-hover": "#a6abb4", "scrollbar-active": "#5a46b5",
        "scrollbar-background": "#fbfaf7", "scrollbar-background-hover": "#fbfaf7", "scrollbar-background-active": "#fbfaf7",
    },
)  # fmt: skip

# The terminal's own colours and background; nothing is blended, so nothing can come out invisible.
_SIXTEEN = Theme(
    name="humigence-16",
    ansi=True,
    primary="ansi_magenta",
    secondary="ansi_cyan",
    accent="ansi_bright_magenta",
    success="ansi_green",
    warning="ansi_yellow",
    error="ansi_bright_red",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    variables={
        "dim": "ansi_default",
        "faint": "ansi_bright_black",
        "rule": "ansi_bright_black",
        "cursor-line": "ansi_blue",
        "chart-dots": "ansi_bright_black",
        "chart-line": "ansi_bright_cyan",
        "chart-held": "ansi_bright_magenta",
        "tint": "ansi_cyan",
        "series-1": "ansi_bright_cyan", "series-2": "ansi_bright_magenta", "series-3": "ansi_bright_yellow",
        "series-4": "ansi_cyan", "series-5": "ansi_bright_blue", "series-6": "ansi_bright_white",
        "block-cursor-background": "ansi_blue", "block-cursor-foreground": "ansi_bright_white",
        "scrollbar": "ansi_bright_black", "scrollbar-hover": "ansi_default", "scrollbar-active": "ansi_bright_magenta",
        "scrollbar-background": "ansi_default", "scrollbar-background-hover": "ansi_default",
        "scrollbar-background-active": "ansi_default",
        "ansi-background": "ansi_default", "ansi-foreground": "ansi_default",
    },
)  # fmt: skip

# Where NO_COLOR is set: the colours are names for what is meant, turned into attributes before anything is sent.
NO_COLOR = replace(
    _SIXTEEN,
    name="humigence-no-color",
    primary="ansi_default",
    secondary="ansi_default",
    success="ansi_default",
    variables={
        **_SIXTEEN.variables,
        "dim": "ansi_white",
        "tint": "ansi_cyan",
        **dict.fromkeys(("chart-line", "chart-held", *(f"series-{number}" for number in range(1, 7))), "ansi_default"),
    },
)
# Of the sixteen colours: trained tokens, errors, warnings and the focus are bold, what is dim or faint is dim.
BOLD_WITHOUT_COLOR = frozenset({3, 6, 9, 13})
DIM_WITHOUT_COLOR = frozenset({7, 8})

THEMES: tuple[Theme, ...] = (_DARK, _LIGHT, _SIXTEEN)
DARK, LIGHT, SIXTEEN = (theme.name for theme in THEMES)
# Colours of overlaid curves (variables of the theme), in the order they are given out.
SERIES: tuple[str, ...] = tuple(f"series-{number}" for number in range(1, 7))


def suited(color_system: str | None) -> str:
    """The theme for a terminal that has `color_system` (rich's name): dark, or the one for sixteen colours."""
    return SIXTEEN if color_system in ("standard", "windows") else DARK
