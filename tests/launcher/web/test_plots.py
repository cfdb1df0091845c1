"""The data of charts: lines with bands, smoothed and thinned, and the table below a chart."""

import json
import math

import pytest

from launcher.frontends.web.curves import smoothing_of, stem_of
from launcher.frontends.web.page import Address
from launcher.frontends.web.plots import MOST_POINTS, Line, Plot, Statistic, one_line, smooth, thin

EVIL = '</script><script>alert("1")</script>'


def line_of(*values: float, log: bool = False, smoothing: float = 0.0, name: str = "loss") -> Line:
    return one_line(name, [*enumerate_steps(values)], log=log, smoothing=smoothing)


def enumerate_steps(values: tuple[float, ...]) -> list[tuple[float, float]]:
    return [(float(step), value) for step, value in enumerate(values)]


def test_values_that_no_axis_shows_are_left_out() -> None:
    assert line_of(1.0, math.nan, math.inf, -1.0).points == [(0.0, 1.0), (3.0, -1.0)]
    assert line_of(1.0, math.nan, math.inf, -1.0, 0.0, log=True).points == [(0.0, 1.0)]


def test_data_of_a_chart_is_json_without_nan() -> None:
    plot = Plot(title=EVIL, lines=[line_of(0.25, math.nan, 1e300, name=EVIL), line_of(math.nan)])
    assert "NaN" not in plot.data
    (line,) = json.loads(plot.data)["lines"]
    assert (line["name"], line["x"], line["y"]) == (EVIL, [0, 2], [0.25, 1e300])
    assert plot.has_points


def test_chart_without_numbers_has_no_points() -> None:
    plot = Plot(title="loss", lines=[line_of(math.nan)])
    assert not plot.has_points
    assert plot.table == []


def test_smoothed_line_keeps_the_original_behind_it() -> None:
    line = line_of(4.0, 0.0, 0.0, smoothing=0.5)
    assert line.behind == [(0.0, 4.0), (1.0, 0.0), (2.0, 0.0)]
    assert line.points != line.behind


def test_long_line_is_thinned() -> None:
    assert len(line_of(*map(float, range(10_000))).points) <= MOST_POINTS


def test_line_of_one_job_has_no_band() -> None:
    alone = Line("a", [(0.0, 1.0)], statistics=[Statistic(1.0, 1.0, 1.0, 1)])
    group = Line("b", [(0.0, 1.0)], statistics=[Statistic(1.0, 0.5, 2.0, 3)])
    assert "low" not in alone.to_json()
    assert (group.to_json()["low"], group.to_json()["high"], group.to_json()["jobs"]) == (
        [0.5],
        [2.0],
        [3],
    )


def test_table_has_steps_that_most_lines_have() -> None:
    every = Line("every", [(float(x), x / 100) for x in range(101)])
    tenth = Line("tenth", [(float(x), x / 50) for x in range(0, 101, 10)])
    rows = Plot(title="loss", lines=[every, tenth]).table
    assert len(rows) == 10
    assert rows[0] == ("0", ["0", "0"])
    assert rows[-1] == ("100", ["1", "2"])
    assert "–" not in [text for _, texts in rows for text in texts]


def test_table_has_the_band_and_its_jobs() -> None:
    group = Line("b", [(7.0, 1.0)], statistics=[Statistic(1.0, 0.5, 2.0, 3)])
    assert Plot(title="loss", lines=[group]).table == [("7", ["1 (0.5 to 2, 3 jobs)"])]


def test_smoothing_starts_at_the_first_value_and_lags() -> None:
    points = [(0.0, 4.0), (1.0, 0.0), (2.0, 0.0)]
    values = [y for _, y in smooth(points, 0.5)]
    assert values[0] == 4.0
    assert values[1] == pytest.approx(4 * 0.25 / 0.75)
    assert 0 < values[2] < values[1]


def test_zero_weight_does_not_smooth() -> None:
    points = [(0.0, 4.0), (1.0, -2.0)]
    assert smooth(points, 0.0) == points


def test_thinned_curve_keeps_ends_and_peaks() -> None:
    points = [(float(x), math.sin(x / 50)) for x in range(10_000)]
    points[4321] = (4321.0, 9.0)
    points[777] = (777.0, -9.0)
    kept = thin(points, 300)
    assert 290 < len(kept) <= 300
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert {(4321.0, 9.0), (777.0, -9.0)} <= set(kept)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)


def test_short_curve_is_not_thinned() -> None:
    points = [(0.0, 1.0), (1.0, 2.0)]
    assert thin(points, 10) == points


@pytest.mark.parametrize(
    ("metric", "stem"),
    [
        ("loss", ("loss", "")),
        ("val_loss", ("loss", "val")),
        ("validation/auc", ("auc", "validation")),
        ("loss.train", ("loss", "train")),
        ("Test_EER", ("EER", "test")),
        ("train", ("train", "")),
        ("evaluated", ("evaluated", "")),
    ],
)
def test_dataset_split_is_read_from_the_metric_name(metric: str, stem: tuple[str, str]) -> None:
    assert stem_of(metric) == stem


@pytest.mark.parametrize("text", ["nan", "-1", "1", "1e9", "", "much"])
def test_invalid_smoothing_does_not_smooth(text: str) -> None:
    address = Address(path="curves", query=(("smooth", text), ("scale", "log")))
    assert smoothing_of(address) == 0
