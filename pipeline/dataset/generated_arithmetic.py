"""Questions whose answers are worked out: sums with their way, percentages, and measures turned into others."""

from __future__ import annotations

from collections.abc import Callable

Draw = Callable[[str, int, int], int]
"""(what for, least, most) -> a whole number in between, both included; the same for the same question number."""

Turns = list[str]
"""Question and answer in turn."""


def arithmetic(draw: Draw) -> Turns:
    """A sum from school or the shop, the way to its answer shown."""
    kinds = (_addition, _product, _percentage, _change, _average, _sharing, _speed)
    return kinds[draw("kind", 0, len(kinds) - 1)](draw)


def _addition(draw: Draw) -> Turns:
    a, b = draw("a", 120, 980), draw("b", 120, 980)
    if draw("sign", 0, 1):
        return [f"What is {a} plus {b}?", f"{a} + {b} = {a + b}"]
    a, b = max(a, b), min(a, b)
    return [f"What is {a} minus {b}?", f"{a} − {b} = {a - b}"]


def _product(draw: Draw) -> Turns:
    a, b = draw("a", 12, 98), draw("b", 3, 19)
    tens, ones = a // 10 * 10, a % 10
    way = f"{tens} × {b} = {tens * b} and {ones} × {b} = {ones * b}, together {a * b}."
    return [f"How much is {a} times {b}? Show me the way.", f"{way} So {a} × {b} = {a * b}."]


def _percentage(draw: Draw) -> Turns:
    share, whole = 5 * draw("share", 1, 18), 20 * draw("whole", 2, 60)
    part = share * whole // 100
    return [f"What is {share} % of {whole}?", f"1 % of {whole} is {_decimal(whole, 100)}, so {share} % is {part}."]


def _change(draw: Draw) -> Turns:
    price, paid = draw("price", 105, 1895), 2000
    back = paid - price
    ask = f"Something costs {price // 100}.{price % 100:02} and I pay with a 20. What do I get back?"
    return [ask, f"20.00 − {price // 100}.{price % 100:02} = {back // 100}.{back % 100:02}"]


def _average(draw: Draw) -> Turns:
    a, b, c = draw("a", 3, 60), draw("b", 3, 60), draw("c", 3, 60)
    c += -(a + b + c) % 3
    total = a + b + c
    return [f"What is the average of {a}, {b} and {c}?", f"{a} + {b} + {c} = {total}, and {total} divided by 3 is {total // 3}."]


def _sharing(draw: Draw) -> Turns:
    people, each, left = draw("people", 3, 9), draw("each", 3, 14), draw("left", 0, 2)
    total = people * each + left
    rest = "and none is left" if not left else f"and {left} {'is' if left == 1 else 'are'} left"
    ask = f"{people} children share {total} marbles evenly. How many does each get?"
    return [ask, f"{people} × {each} = {people * each}, so each child gets {each}, {rest}."]


def _speed(draw: Draw) -> Turns:
    speed, minutes = 10 * draw("speed", 3, 13), 15 * draw("quarters", 1, 12)
    hours, far = _decimal(minutes, 60), _decimal(speed * minutes, 60)
    ask = f"I drive {minutes} minutes at {speed} kilometres an hour. How far do I get?"
    return [ask, f"{minutes} minutes are {hours} {'hour' if minutes == 60 else 'hours'}. {speed} × {hours} = {far} kilometres."]


def units(draw: Draw) -> Turns:
    """A measure in another unit."""
    name, one, factor, other, least, most = _UNITS[draw("unit", 0, len(_UNITS) - 1)]
    amount = draw("amount", least, most)
    if name == "temperature":
        return _temperature(draw("celsius", -20, 100))
    result = _decimal(round(amount * factor * 100), 100)
    exact = "" if abs(amount * factor - float(result)) < 1e-9 else "about "
    asks = (f"How many {other} are {amount} {one}?", f"Convert {amount} {one} to {other}.", f"{amount} {one} in {other}?")
    return [asks[draw("ask", 0, 2)], f"{amount} {one} are {exact}{result} {other}."]


def _temperature(celsius: int) -> Turns:
    fahrenheit = _decimal(celsius * 18 + 320, 10)
    return [
        f"What is {celsius} °C in Fahrenheit?",
        f"Times 1.8, plus 32: {celsius} × 1.8 + 32 = {fahrenheit}. So {celsius} °C is {fahrenheit} °F.",
    ]


_UNITS: tuple[tuple[str, str, float, str, int, int], ...] = (
    ("length", "kilometres", 1000, "metres", 2, 90),
    ("length", "miles", 1.609344, "kilometres", 2, 120),
    ("length", "inches", 2.54, "centimetres", 2, 80),
    ("length", "feet", 0.3048, "metres", 3, 60),
    ("mass", "kilograms", 1000, "grams", 2, 60),
    ("mass", "pounds", 0.45359237, "kilograms", 2, 90),
    ("mass", "ounces", 28.349523, "grams", 2, 40),
    ("volume", "litres", 1000, "millilitres", 2, 40),
    ("volume", "US gallons", 3.785412, "litres", 2, 40),
    ("time", "hours", 60, "minutes", 2, 48),
    ("time", "weeks", 7, "days", 2, 50),
    ("data", "GiB", 1024, "MiB", 2, 64),
    ("temperature", "", 1, "", 0, 0),
    ("temperature", "", 1, "", 0, 0),
)


def _decimal(numerator: int, denominator: int) -> str:
    """At most two decimals, none that is not needed: 7/2 is 3.5."""
    return f"{numerator / denominator:.2f}".rstrip("0").rstrip(".")
