"""Pictures: what is drawn stands where its value is, and what is left out is said."""

import math
import re
import xml.etree.ElementTree as ET

import pytest

from tunesmith.report import svg
from tunesmith.report.svg import scales

NAN, INF = math.nan, math.inf


def drawing(figure):
    """The SVG of a figure, parsed as XML: what is not well-formed raises."""
    return ET.fromstring(re.search(r"<svg.*</svg>", figure, re.DOTALL)[0])


def numbers(points):
    return [tuple(map(float, pair.split(","))) for pair in points.split()]


def of(figure, kind):
    return [line for line in drawing(figure).iter("polyline") if kind in line.get("class", "").split()]


def notes(figure):
    return re.findall(r'<p class="note">(.*?)</p>', figure)


def curve(values):
    return [svg.Line("x", list(enumerate(values, 1)))]


ODD = {
    "nothing": [], "one": [3.0], "zero": [0.0], "zeros": [0.0, 0.0, 0.0], "nan": [NAN], "all lost": [NAN, INF, -INF],
    "gap": [1.0, NAN, 3.0, 4.0], "widest": [1e308, -1e308, 0.0], "tiny": [5e-324, 1e-320], "equal": [7.0] * 50,
    "negative": [-3.0, -2.0], "large and near": [1e9, 1e9 + 1],
}  # fmt: skip


@pytest.mark.parametrize("values", ODD.values(), ids=ODD)
@pytest.mark.parametrize("log", [False, True])
def test_odd_values_make_whole_drawings_inside_the_frame(values, log):
    many = [str(i) for i in range(len(values))]
    figures = [
        svg.lines("t", curve(values), log_y=log, log_x=log), svg.histogram("t", values), svg.spread("t", [(1, values)]),
        svg.bars("t", many, values, log=log), svg.rows("t", {"a": dict(enumerate(values))}),
        svg.heat("t", ["r"], many, [values], log=log), svg.heat("t", ["r"], many, [values], middle=1.0),
        svg.path("t", [(value, value) for value in values], x="a", y="b"),
    ]  # fmt: skip
    for figure in figures:
        assert figure.startswith("<figure")
        if "<svg" in figure:
            parsed = drawing(figure)
            written = [
                value for element in parsed.iter() for key, value in element.items() if not key.startswith("data-")
            ]
            assert not [value for value in written if re.search(r"\b(nan|inf)\b", value.partition(". ")[0])]
            assert all(float(box.get("width")) >= 0 and float(box.get("height")) >= 0 for box in parsed.iter("rect"))
            for line in parsed.iter("polyline"):
                assert all(0 <= x <= 360 and 0 <= y <= 200 for x, y in numbers(line.get("points")))


def test_a_point_stands_where_its_value_is():
    figure = svg.lines("t", [svg.Line("x", [(0, 0.0), (5, 5.0), (10, 10.0)])])
    (line,) = of(figure, "line")
    (x0, y0), (x1, y1), (x2, y2) = numbers(line.get("points"))
    assert x1 == pytest.approx((x0 + x2) / 2)
    assert y1 == pytest.approx((y0 + y2) / 2)
    assert y2 < y1 < y0  # SVG counts downwards


def test_equal_factors_are_equal_distances_on_a_log_scale():
    figure = svg.lines("t", [svg.Line("x", [(1, 1.0), (10, 10.0), (100, 100.0)])], log_y=True, log_x=True)
    (x0, y0), (x1, y1), (x2, y2) = numbers(of(figure, "line")[0].get("points"))
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.2)


def test_a_log_scale_that_cannot_be_is_said():
    assert "linear: not all values are positive" in notes(svg.lines("t", curve([0.0, 1.0]), log_y=True))
    assert notes(svg.lines("t", curve([0.1, 1.0]), log_y=True)) == []


def test_a_zero_is_drawn_like_any_value():
    assert len(list(drawing(svg.lines("t", curve([1.0, 0.0, 1.0]))).iter("circle"))) == 3


def test_values_that_are_not_finite_break_the_line_and_are_marked_and_counted():
    figure = svg.lines("t", curve([1.0, 2.0, NAN, 4.0, 5.0, INF, 7.0]))
    assert len([mark for mark in drawing(figure).iter("path") if mark.get("class") == "lost"]) == 2
    assert [len(numbers(line.get("points"))) for line in of(figure, "line")] == [2, 2]
    assert notes(figure) == ["2 values are nan or infinite (at 3, 6)"]


def test_many_steps_are_thinned_without_losing_their_extremes():
    values = [1.0] * 100_000
    values[54_321] = 9.0
    thinned = scales.thin(list(enumerate(values)))
    assert len(thinned.points) == scales.MOST
    assert max(thinned.high) == 9.0
    figure = svg.lines("t", curve(values))
    assert notes(figure) == ["100,000 values; drawn: range and mean of every 250"]
    assert len(figure) < 40_000


def test_means_of_thinned_values_are_those_of_their_parts():
    thinned = scales.thin([(i, float(i)) for i in range(1, 2001)], 400)
    assert thinned.every == 5
    assert [y for _, y in thinned.points[:2]] == pytest.approx([3.0, 8.0])
    assert (thinned.low[0], thinned.high[0]) == (1.0, 5.0)


def test_single_values_do_not_hide_all_others_and_that_is_said():
    figure = svg.lines("t", curve([1.0 + (i % 10) / 10 for i in range(100)] + [1e30]))
    assert notes(figure) == ["scale cut: 1 value beyond it, 1e+30"]
    heights = [y for line in of(figure, "line") for _, y in numbers(line.get("points"))]
    assert max(heights) - min(heights) > 5  # the others are not a flat line


def test_the_smoothed_course_of_a_straight_line_is_that_line():
    smoothed = scales.smooth([(i, 2.0 * i) for i in range(100)], 10)
    assert [y for _, y in smoothed] == pytest.approx([2.0 * x for x, _ in smoothed])


def test_a_smoothed_course_does_not_lag_behind():
    step = [(i, float(i >= 50)) for i in range(100)]
    crossed = next(x for x, y in scales.smooth(step, 10) if y >= 0.5)
    assert crossed in (49, 50)


def test_short_curves_are_points_and_long_ones_have_a_course_before_them():
    assert of(svg.lines("t", curve([1.0] * 10)), "raw") == []
    assert len(of(svg.lines("t", curve([1.0] * 30)), "raw")) == 1


def test_a_screen_reader_is_told_what_a_curve_does():
    label = drawing(svg.lines("Loss", curve([5.0, 2.0, 3.0]))).get("aria-label")
    assert label == "Loss. x: 3 values from 5 at 1 to 3 at 3, least 2, greatest 5"


def test_what_the_pointer_is_told_are_the_values():
    (series,) = (g for g in drawing(svg.lines("t", curve([0.5, NAN, 1.5]))).iter("g") if "series" in g.get("class"))
    assert (series.get("data-xs"), series.get("data-ys")) == ("1 3", "0.5 1.5")


def test_a_histogram_counts_every_value():
    boxes = drawing(svg.histogram("t", [0.0, 0.0, 1.0, 0.5, NAN], bins=4))
    told = [box.find("title").text for box in boxes.iter("rect")]
    assert [int(text.rpartition(": ")[2]) for text in told] == [2, 0, 1, 1]
    assert "1 value is nan or infinite" in notes(svg.histogram("t", [0.0, 0.0, 1.0, 0.5, NAN]))


def test_whole_numbers_have_a_bar_each():
    told = [box.find("title").text for box in drawing(svg.histogram("t", [0.0, 1.0, 1.0, 3.0])).iter("rect")]
    assert told == ["0: 1", "1: 2", "2: 0", "3: 1"]


def test_bars_are_as_high_as_their_values():
    boxes = list(drawing(svg.bars("t", ["a", "b"], [1.0, 3.0])).iter("rect"))
    assert float(boxes[1].get("height")) == pytest.approx(3 * float(boxes[0].get("height")), rel=0.01)


def test_stacked_bars_stand_on_each_other():
    low, high = drawing(svg.bars("t", ["a"], {"x": [1.0], "y": [2.0]}, stacked=True)).iter("rect")
    assert float(high.get("y")) + float(high.get("height")) == pytest.approx(float(low.get("y")), abs=0.02)


def test_the_distribution_of_a_step_is_in_its_column():
    told = [
        cell.find("title").text for cell in drawing(svg.spread("t", [(1, [0.0, 0.0, 1.0]), (2, [1.0])])).iter("rect")
    ]
    assert told == [
        "step 1: 2 of 3 from 0 to 0.0625",
        "step 1: 1 of 3 from 0.9375 to 1",
        "step 2: 1 of 1 from 0.9375 to 1",
    ]


def test_columns_that_are_left_out_are_said():
    figure = svg.heat("t", ["r"], [str(i) for i in range(200)], [[float(i) for i in range(200)]])
    assert "every 4th of 200 columns" in notes(figure)
    assert len(list(drawing(figure).iter("rect"))) == 50


def test_many_steps_become_few_columns_and_that_is_said():
    figure = svg.spread("t", [(i, [float(i)]) for i in range(1, 601)])
    assert "a column stands for 10 steps" in notes(figure)


def test_a_path_begins_and_ends_where_it_does():
    figure = svg.path("t", [(0.0, 0.0), (1.0, 2.0)], x="KL", y="reward", steps=[10, 20])
    told = [point.find("title").text for point in drawing(figure).iter("circle")]
    assert told == ["step 10: KL 0, reward 0", "step 20: KL 1, reward 2"]


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (1e-8, 3e-8), (-5.0, 1e6), (0.999999, 1.000001), (1e-300, 1e300), (3.0, 3.1)]
)
def test_ticks_are_few_inside_and_told_apart(low, high):
    for log in (False, True):
        ticks = scales.scale_of([low, high], 0, 100, log=log).ticks()
        assert 1 <= len(ticks) <= 14
        assert len(set(scales.told_apart(ticks))) == len(ticks)


def test_names_are_escaped():
    figure = svg.lines("<b>", [svg.Line("<i>", [(1, 1.0)]), svg.Line("</svg>", [(1, 1.0)])], y="<u>")
    drawing(figure)
    assert not re.search(r"<[biu]>", figure)
    assert figure.count("</svg>") == 1
