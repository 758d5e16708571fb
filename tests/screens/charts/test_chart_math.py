from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from screens.charts import chart_math
from screens.charts.chart import Panel, Series, axis, axis_labels, panel_heights, reading
from screens.charts.chart_math import Canvas, Scale, View
from screens.charts.min_max_blocks import Extremes
from screens.run.curves import Curves, fitted_weight
from screens.run.gpu_panel import sparkline

values = hnp.arrays(np.float64, st.integers(1, 700), elements=st.floats(-1e6, 1e6) | st.just(math.nan) | st.just(math.inf))


@given(values, st.integers(1, 60))
def test_thinning_keeps_the_lowest_and_the_highest_and_their_order(y: np.ndarray, columns: int) -> None:
    x = np.arange(len(y), dtype=np.float64)
    thin_x, thin_y = chart_math.thinned(x, y, columns)
    finite = y[np.isfinite(y)]
    assert len(thin_x) <= max(2 * columns, 1)
    assert (np.diff(thin_x) > 0).all()
    if len(finite):
        assert thin_y.min() == finite.min()
        assert thin_y.max() == finite.max()


def test_a_spike_of_one_step_in_a_hundred_thousand_is_drawn() -> None:
    y = np.ones(100_000)
    y[54_321] = 9.0
    thin_x, thin_y = chart_math.thinned(np.arange(100_000.0), y, 240)
    assert thin_x[thin_y.argmax()] == 54_321


@given(values, st.sampled_from([0.0, 0.6, 0.9, 0.98]))
def test_smoothing_in_blocks_is_the_plain_recurrence(y: np.ndarray, weight: float) -> None:
    total = count = 0.0
    expected = []
    for value in y:
        total, count = total * weight, count * weight
        if math.isfinite(value):
            total, count = total + value, count + 1
        expected.append(total / count if count > 1e-9 else math.nan)
    if weight == 0:
        expected = list(y)
    np.testing.assert_allclose(chart_math.smoothed(y, weight), expected, rtol=1e-6, atol=1e-3)


views = st.builds(lambda first, span: View(first, first + span, following=False), st.floats(0, 900), st.floats(8, 1000))


@given(views, st.floats(0.2, 5), st.none() | st.floats(0, 1000))
def test_zooming_never_leaves_the_curve(view: View, factor: float, around: float | None) -> None:
    zoomed = chart_math.zoomed(view, factor, 0, 1000, around)
    assert zoomed.first >= 0
    assert zoomed.last <= 1000 + 1e-6
    assert chart_math.LEAST_SPAN - 1e-6 <= zoomed.span <= 1000 + 1e-6


@given(views, st.floats(-3, 3))
def test_panning_keeps_the_span_and_stays_on_the_curve(view: View, share: float) -> None:
    panned = chart_math.panned(view, share, 0, 1000)
    assert panned.first >= 0
    assert panned.last <= 1000 + 1e-6
    assert panned.span == pytest.approx(min(view.span, 1000))


def test_zooming_holds_the_point_under_the_mouse() -> None:
    zoomed = chart_math.zoomed(View(0, 1000), 0.5, 0, 1000, around=250)
    assert (250 - zoomed.first) / zoomed.span == pytest.approx(0.25)


def test_a_zoomed_view_at_the_end_goes_along_with_the_run_and_elsewhere_stays() -> None:
    at_end = chart_math.zoomed(View(0, 100), 0.5, 0, 100)
    assert (at_end.first, at_end.last) == (50, 100)
    assert chart_math.followed(at_end, 0, 200) == View(150, 200)
    back = chart_math.panned(at_end, -0.5, 0, 100)
    after = chart_math.followed(back, 0, 200)
    assert (after.first, after.last) == (back.first, back.last)


def test_a_log_scale_leaves_out_what_has_no_logarithm() -> None:
    y = np.array([math.nan, math.inf, -1.0, 0.0, 0.1, 1.0, 10.0])
    scale = chart_math.fitted([y], log=True)
    shares = scale.share(y)
    assert scale.log
    assert not np.isfinite(shares[[0, 2, 3]]).any()
    assert 0 <= shares[4] < shares[5] < shares[6] <= 1
    assert shares[5] - shares[4] == pytest.approx(shares[6] - shares[5])


def test_a_log_scale_of_nothing_positive_is_straight() -> None:
    assert not chart_math.fitted([np.array([-1.0, 0.0, math.nan])], log=True).log
    assert chart_math.fitted([np.array([math.nan])]) == Scale(0.0, 1.0)


def test_one_spike_does_not_flatten_a_curve() -> None:
    y = np.concatenate([np.linspace(2, 1, 999), [400.0]])
    assert chart_math.fitted([y], outliers=0.01).high < 3
    assert chart_math.fitted([y]).high > 399


@given(st.floats(-1e4, 1e4), st.floats(1e-6, 1e5), st.integers(1, 12))
def test_ticks_lie_in_the_scale_and_are_not_too_many(low: float, span: float, most: int) -> None:
    for scale in (Scale(low, low + span), Scale(abs(low) + 1e-6, abs(low) + 1e-6 + span, log=True)):
        found = chart_math.ticks(scale, most)
        assert len(found) <= most
        slack = 1e-6 * (abs(scale.low) + abs(scale.high))
        assert all(scale.low - slack <= tick <= scale.high + slack for tick in found)
        assert found == sorted(set(found))


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ([1.0, 1.5, 2.0], ["1.0", "1.5", "2.0"]),
        ([1.25, 1.5], ["1.25", "1.50"]),
        ([0.0, 0.0001, 0.0002], ["0", "1e-4", "2e-4"]),
        ([0.00015, 0.0002], ["1.5e-4", "2.0e-4"]),
    ],
)
def test_tick_labels_have_the_decimals_they_need(ticks: list[float], labels: list[str]) -> None:
    assert [chart_math.label(tick, ticks) for tick in ticks] == labels


def test_a_line_is_drawn_without_holes_and_broken_where_a_value_is_missing() -> None:
    canvas = Canvas(20, 5)
    canvas.line(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 0.0]))
    assert canvas.dots.any(axis=0).all()
    broken = Canvas(20, 5)
    broken.line(np.array([0.0, 0.3, 0.5, 0.7, 1.0]), np.array([0.5, 0.5, math.nan, 0.5, 0.5]))
    assert not broken.dots[:, 18:22].any()
    assert broken.dots[:, :10].any()
    assert broken.dots[:, 30:].any()


def test_braille_patterns_are_those_of_unicode() -> None:
    canvas = Canvas(1, 1)
    canvas.points(np.array([0.0]), np.array([1.0]))
    assert chr(0x2800 + int(canvas.cells()[0, 0])) == "⠁"
    canvas.points(np.array([0.99]), np.array([0.0]))
    assert chr(0x2800 + int(canvas.cells()[0, 0])) == "⢁"


@given(st.floats(0, 1e5), st.floats(8, 1e5), st.integers(10, 200))
def test_an_axis_is_as_wide_as_the_plot(first: float, span: float, width: int) -> None:
    line, text = axis(View(first, first + span), width)
    assert len(line) == len(text) == width


def test_axis_labels_are_inside_the_plot() -> None:
    assert all(0 <= row < 7 for row in axis_labels(Scale(0.9, 2.6), 7))


@given(st.integers(1, 3), st.integers(12, 60))
def test_panels_share_out_all_rows(count: int, rows: int) -> None:
    assert sum(panel_heights(count, rows)) == rows


def test_a_history_has_its_newest_value_at_the_right() -> None:
    assert sparkline([0, 50, 100], 5) == "  ▁▅█"
    assert sparkline([math.nan, 100, 0], 2) == "█▁"
    assert sparkline([0, 0, 50, 50, 100, 100], 3) == "▁▅█"  # all of it, however narrow
    assert sparkline([1, 2], 0) == ""


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=80), st.lists(st.integers(1, 30), min_size=1))
def test_a_curve_smoothed_as_it_grows_is_the_curve_smoothed_at_once(values: list[float], sizes: list[int]) -> None:
    y, smoother, at, given_out = np.array(values), chart_math.Smoother(0.9), 0, []
    for size in [*sizes, len(values)]:
        at = min(len(values), at + size)
        grown = smoother.upto(y[:at])
        given_out.append((grown, grown.copy()))
    np.testing.assert_allclose(grown, chart_math.smoothed(y, 0.9), rtol=1e-6, atol=1e-3)
    for now, then in given_out:
        np.testing.assert_array_equal(now, then)


long_curves = st.integers(0, 1500).flatmap(
    lambda length: hnp.arrays(
        np.float64, length, elements=st.floats(-1e6, 1e6) | st.just(math.nan) | st.just(math.inf), fill=st.just(1.0)
    )
)


@given(long_curves, st.lists(st.integers(0, 1500), max_size=3), st.integers(0, 1500), st.integers(0, 1500))
def test_the_extremes_of_any_part_are_its_own_however_the_curve_has_grown(
    y: np.ndarray, seen: list[int], begin: int, end: int
) -> None:
    extremes = Extremes()
    for length in sorted(min(each, len(y)) for each in seen):
        extremes.within(y[:length], 0, length)
    begin, end = sorted((min(begin, len(y)), min(end, len(y))))
    kept = extremes.within(y, begin, end)
    part, found = y[begin:end], y[kept]
    assert (np.diff(kept) >= 0).all()
    assert all(begin <= at < end for at in kept)
    assert np.isfinite(part).all() == np.isfinite(found).all()
    if np.isfinite(part).any():
        assert found[np.isfinite(found)].min() == part[np.isfinite(part)].min()
        assert found[np.isfinite(found)].max() == part[np.isfinite(part)].max()


def test_another_curve_is_not_taken_for_the_one_before() -> None:
    extremes = Extremes()
    first, second = np.zeros(1000), np.zeros(1000)
    second[300], second[700] = -1.0, 1.0
    extremes.within(first, 0, 1000)
    found = second[extremes.within(second, 0, 1000)]
    assert (found.min(), found.max()) == (-1.0, 1.0)


def test_a_reading_is_of_the_step_it_names_and_of_curves_that_reach_it() -> None:
    def series(name: str, last: int, colour: str, kind: str = "line") -> Series:
        x = np.arange(1.0, last + 1) if kind == "line" else np.array([2.0])
        return Series(name, x, 10 * x, colour, kind)  # type: ignore[arg-type]

    short, long = series("short", 5, "a"), series("long", 9, "b")
    marks = [series("short held-out", 5, "a", "marks"), series("long held-out", 9, "b", "marks")]
    panel = Panel("loss", (long, short, *marks))
    step, values = reading(panel, 7.6)
    assert step == 8 and [(each.name, value) for each, value in values] == [("long", 80.0), ("long held-out", 20.0)]
    step, values = reading(panel, 4.2)
    assert step == 4 and len(values) == 4


def test_few_steps_are_smoothed_less() -> None:
    loss = np.linspace(4, 2.7, 24)  # as the demo's, which ends below what an average over ten steps says
    columns = SimpleNamespace(loss=loss)
    assert abs(Curves().smoothed(columns, 0.9)[-1] - 2.7) < 0.1  # type: ignore[arg-type]
    assert fitted_weight(0.9, 1000) == 0.9
