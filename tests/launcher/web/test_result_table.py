from collections.abc import Mapping, Sequence
from typing import Any

from launcher.results.table import RunResults
from launcher.web.results import (
    FEW,
    MOST_ROWS,
    NUMBER,
    RUN,
    Compared,
    ResultTable,
    result_table,
)

COLUMNS = (RUN, "model", "lr", "data", "modifier", "pooled", NUMBER)


def a_row(model: str, data: str = "dot", *, lr: float = 0.1, **more: Any) -> dict[str, Any]:
    place = {"modifier": "pre", "pooled": False, NUMBER: 7}
    return {RUN: "night", "model": model, "lr": lr, "data": data, **place, **more}


def table(listed: Sequence[Mapping[str, Any]], **wish: Any) -> ResultTable:
    results = RunResults(rows=listed, columns=COLUMNS)
    return result_table(Compared(results=results, kinds={}), **wish)


def column(made: ResultTable, name: str) -> list[str]:
    at = [heading.name for heading in made.headings].index(name)
    return [row.cells[at].text for row in made.rows]


def starred(made: ResultTable) -> set[tuple[str, str]]:
    names = [heading.name for heading in made.headings]
    return {
        (names[at], cell.text)
        for row in made.rows
        for at, cell in enumerate(row.cells)
        if cell.best
    }


def test_columns_are_names_what_differs_and_metrics() -> None:
    made = table([a_row("a", auc=0.5), a_row("b", auc=0.6)])
    assert [heading.name for heading in made.headings] == ["model", "auc"]
    assert made.data == "dot"
    assert column(made, "model") == ["a", "b"]
    assert [row.job for row in made.rows] == [7, 7]
    made = table([a_row("a", auc=0.5), a_row("a", lr=0.2, auc=0.6)])
    assert column(made, "lr") == ["0.1", "0.2"]


def test_the_best_of_each_data_is_marked_low_where_low_is_good() -> None:
    rows = [
        a_row("a", auc=0.5, loss=0.3, n=4),
        a_row("b", auc=0.75, loss=0.5, n=5),
        a_row("a", "ring", auc=0.1, loss=0.9, n=6),
        a_row("b", "ring", auc=float("nan"), loss=0.9, n=7),
    ]
    assert starred(table(rows)) == {("auc", "0.75"), ("loss", "0.3")}


def test_rows_are_ordered_by_a_column_and_a_second_choice_turns_the_order() -> None:
    rows = [a_row("a", auc=0.5, loss=0.3), a_row("b", auc=0.75, loss=0.5), a_row("c", auc=0.6)]
    made = table(rows, sort="-auc")
    assert column(made, "model") == ["b", "c", "a"]
    heads = {heading.name: heading for heading in made.headings}
    assert (heads["auc"].order, heads["auc"].sort) == ("descending", "auc")
    assert (heads["loss"].order, heads["loss"].sort) == ("", "loss")
    assert column(table(rows, sort="loss"), "loss") == ["0.3", "0.5", "–"]
    assert column(table(rows, sort="nothing"), "model") == ["a", "b", "c"]


def test_rows_that_pool_sets_are_shown_first_and_apart() -> None:
    rows = [a_row("a", auc=0.5), a_row("a", "dot&ring", auc=0.6, pooled=True)]
    made = table(rows)
    assert (made.data, made.pooled, made.single) == ("pre", 1, 1)
    assert made.shows_pooled
    assert table(rows, single=True).data == "dot"
    both = table([*rows, a_row("a", "ring", auc=0.5)], single=True)
    assert column(both, "data") == ["dot", "ring"]
    assert (both.data, both.data_differs, both.intervals) == ("", True, False)


def test_metrics_with_an_interval_come_first_where_there_are_many() -> None:
    many: dict[str, Any] = {f"m{number}": number / 7 for number in range(FEW + 3)}
    row = a_row("a", **many, auc={"value": 0.51234, "low": 0.412345, "high": 0.6})
    made = table([row])
    assert [heading.name for heading in made.headings if heading.numeric] == ["auc"]
    assert made.metrics_left == FEW + 3
    assert made.intervals
    (cell,) = [cell for cell in made.rows[0].cells if cell.numeric]
    assert (cell.text, cell.interval) == ("0.5123", "0.412 to 0.6")
    assert table([row], everything=True).metrics_left == 0


def test_a_table_of_very_many_rows_is_cut() -> None:
    made = table([a_row(f"m{number}", auc=0.5) for number in range(MOST_ROWS + 3)])
    assert (len(made.rows), made.rows_left) == (MOST_ROWS, 3)


def test_no_results_make_an_empty_table() -> None:
    assert table([]).rows == ()
