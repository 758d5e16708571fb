from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runs.curve import Curve


def grown(points: int) -> Curve:
    curve = Curve("step", "loss")
    for step in range(1, points + 1):
        curve.append(step=step, loss=0.1 * step)
    return curve


@given(st.lists(st.tuples(st.sampled_from(["append", "extend", "cut"]), st.integers(0, 700)), max_size=12))
def test_a_total_told_again_and_again_is_that_of_what_is_there(changes: list[tuple[str, int]]) -> None:
    curve = grown(3)
    for change, number in changes:
        if change == "cut":
            curve.cut_after(number)
        else:
            count = number if change == "extend" else 1
            steps = [float(len(curve) + n) for n in range(1, count + 1)]
            curve.extend({"step": array("d", steps), "loss": array("d", [0.1 * step for step in steps])})
        assert curve.total("loss") == pytest.approx(sum(curve["loss"]))


def test_a_view_is_what_it_was_however_the_curve_goes_on() -> None:
    curve = grown(500)
    before, was = curve["loss"], list(curve["loss"])
    curve.cut_after(100)
    for step in range(101, 2000):
        curve.append(step=step, loss=-1.0)
    assert list(before) == was
    assert list(curve["step"]) == list(range(1, 2000))
    with pytest.raises(TypeError):
        before[0] = 1.0


def test_a_point_that_is_no_number_is_not_half_taken() -> None:
    curve = grown(2)
    with pytest.raises(ValueError, match="invalid value"):
        curve.append(step=3, loss=10**400)
    curve.append(step=3, loss=0.0)
    assert (list(curve["step"]), curve["loss"][2]) == ([1, 2, 3], 0.0)
