from typing import Any

from launcher.cli.results import draw


def a_value(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def a_row(model: str, data: str, *, pooled: bool, **changes: Any) -> dict[str, Any]:
    values = {key: a_value(0.9) for key in ("accuracy", "balanced_accuracy", "auc", "ece", "loss")}
    row = {"model": model, "data": data, "modifier": "pre", "pooled": pooled, "n": 600}
    return row | values | {"verdict": "", "seconds": 12.34} | changes


ROWS = [
    a_row("all:pre", "gan2:pre", pooled=False, balanced_accuracy=a_value(0.97)),
    a_row("all:pre", "gan2:pre&real:pre", pooled=True),
    a_row("all:pre%50", "gan2:pre", pooled=False, balanced_accuracy=None),
    a_row("all:pre%50", "gan2:pre&real:pre", pooled=True, auc=a_value(0.5), verdict="chance"),
]


def test_a_wide_terminal_gets_every_interval() -> None:
    lines = draw(ROWS, width=140).splitlines()
    assert lines[2].split() == (
        ["model", "data", "n", "accuracy", "%", "balanced", "%", "AUC", "ECE", "loss", "made", "in"]
    )
    assert "0.900 [0.890, 0.910]" in lines[3]
    assert "12.3 s" in lines[3]
    assert "chance" in lines[4]
    assert lines[-2].split() == ["all:pre", "97.0"]
    assert lines[-1].split() == ["all:pre%50", "–"]


def test_at_100_columns_no_line_is_wrapped_and_the_verdict_stays() -> None:
    text = draw(ROWS, width=100)
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "0.500 [0.490, 0.510]" in text
    assert "chance" in text


def test_every_set_has_a_row_of_its_own_when_asked_for() -> None:
    lines = draw(ROWS, everything=True, width=140).splitlines()
    assert len(lines) == 1 + len(ROWS)
    assert "gan2:pre&real:pre" in lines[2]


def test_a_run_without_tests_has_no_table() -> None:
    assert draw([]) == "no results yet"
