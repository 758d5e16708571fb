"""Overlaid curves are told apart by people who see few colours, and from the background by everybody."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from screens.frame import themes

Vector = NDArray[np.float64]
# What is seen without one kind of cones, in linear RGB (Machado, Oliveira and Fernandes 2009, severity 1.0).
VISIONS = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
WHITE = np.array([0.95047, 1.0, 1.08883])
THEMES = [theme for theme in themes.THEMES if theme.name != themes.SIXTEEN]  # its colours are the terminal's


def linear(colour: str) -> Vector:
    """`#rrggbb` as linear RGB (IEC 61966-2-1)."""
    c = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: Vector) -> Vector:
    """CIE 1976 L*a*b* of linear RGB; distances there are what the eye makes of them, 2.3 just noticeable."""
    scaled = TO_XYZ @ np.clip(rgb, 0, 1) / WHITE
    x, y, z = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    """The ratio of luminances as WCAG 2.1 counts it."""
    low, high = sorted(float(TO_XYZ[1] @ linear(each)) for each in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_curves_laid_over_one_another_are_told_apart(theme: themes.Theme, vision: str) -> None:
    seen = {name: lab(VISIONS[vision] @ linear(theme.variables[name])) for name in themes.SERIES}
    for one, other in combinations(seen, 2):
        assert float(np.linalg.norm(seen[one] - seen[other])) > 17, (one, other)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_every_curve_stands_out_from_the_background(theme: themes.Theme) -> None:
    assert theme.background is not None
    for name in (*themes.SERIES, "chart-line", "chart-held"):
        assert contrast(theme.variables[name], theme.background) >= 3, name  # what WCAG asks of graphics
