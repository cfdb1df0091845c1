"""Sizes, time spans and dates: parsing, printing, and errors of options."""

import math
import statistics
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.system.errors import (
    MOST_PROBLEMS,
    WIDTH,
    Error,
    IdError,
    JobError,
    MachineError,
    Problem,
    Severity,
    SourceLocation,
    TaskFileError,
    UnknownName,
    UsageError,
    list_known_names,
    nearest,
    pluralize,
)
from launcher.system.units import (
    DAY_S,
    exponential_backoff_s,
    format_bytes,
    format_estimate,
    format_seconds,
    mean,
    median,
    parse_bytes,
    parse_seconds,
    quartile,
)

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("16GiB", 16 * GIB),
        ("16 gib", 16 * GIB),
        (" 512MiB ", GIB // 2),
        ("1.5 GiB", 3 * GIB // 2),
        ("100 B", 100),
        ("0", 0),
    ],
)
def test_memory_is_parsed(text: str, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("16000", "'16000' has no unit. Write 16000GiB or 16000MiB"),
        ("16GB", "unknown unit 'GB'. Did you mean 16GiB?"),
        ("16 m", "unknown unit 'm'. Did you mean 16MiB?"),
        ("much", "expected an amount of memory such as 16GiB, got 'much'"),
        ("-1GiB", "expected an amount of memory such as 16GiB, got '-1GiB'"),
        ("", "expected an amount of memory such as 16GiB, got ''"),
        ("1e3GiB", "expected an amount of memory such as 16GiB, got '1e3GiB'"),
    ],
)
def test_ambiguous_memory_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_bytes(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1023 * 1024 + 511, "1023 KiB"),
        (2**20 - 1, "1 MiB"),
        (1 - 2**30, "-1 GiB"),
        (512 * 2**20, "512 MiB"),
        (round(11.2 * GIB), "11.2 GiB"),
        (round(39.44 * GIB), "39.4 GiB"),
        (2**60, "1048576 TiB"),
    ],
)
def test_memory_is_printed(amount: int, text: str) -> None:
    assert format_bytes(amount) == text


@given(st.integers(0, 2**50))
def test_printed_memory_round_trips_within_its_digits(amount: int) -> None:
    assert parse_bytes(format_bytes(amount)) == pytest.approx(amount, rel=0.05)


@pytest.mark.parametrize(
    ("text", "span_s"),
    [
        ("8h", 28800),
        ("30m", 1800),
        ("1h30m", 5400),
        ("1 h 52 m", 6720),
        ("41 s", 41),
        ("1.5h", 5400),
        ("2d 3h", 183600),
    ],
)
def test_time_is_parsed(text: str, span_s: float) -> None:
    assert parse_seconds(text) == span_s


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("90", "'90' has no unit. Write 90s, 90m, 90h or 90d"),
        ("1:30", "'1:30' may be hours or minutes. Write 1h30m or 1m30s"),
        ("30m1h", "expected a time such as 30d, 8h, 1h30m or 41s, got '30m1h'"),
        ("1h30", "expected a time such as 30d, 8h, 1h30m or 41s, got '1h30'"),
        ("", "expected a time such as 30d, 8h, 1h30m or 41s, got ''"),
        ("soon", "expected a time such as 30d, 8h, 1h30m or 41s, got 'soon'"),
    ],
)
def test_ambiguous_time_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_seconds(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("span_s", "text"),
    [
        (0, "0 s"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (41.3, "41 s"),
        (59.7, "1 m"),
        (725, "12 m 5 s"),
        (6720, "1 h 52 m"),
        (3600, "1 h"),
        (183_659, "2 d 3 h"),
        (-41, "-41 s"),
    ],
)
def test_time_is_printed(span_s: float, text: str) -> None:
    assert format_seconds(span_s) == text


@given(st.integers(0, 3599))
def test_printed_time_round_trips_to_the_second(span_s: int) -> None:
    assert parse_seconds(format_seconds(span_s)) == span_s


def test_forecast_shows_time_of_day_or_days_by_distance() -> None:
    now = time.mktime((2026, 11, 22, 12, 0, 0, 0, 0, -1))
    assert format_estimate(now + 3600, now) == "at 13:00"
    assert format_estimate(now - 60, now) == "at 11:59"
    assert format_estimate(now + DAY_S, now) == "in 1 day"
    assert format_estimate(now + 12.2 * DAY_S, now) == "in 12 days"


@pytest.mark.parametrize("at", [365 * DAY_S, 1e300, math.inf, -math.inf, math.nan, -1e9])
def test_unpredictable_time_is_not_shown(at: float) -> None:
    assert format_estimate(1.7e9 + at, 1.7e9) == ""


@given(st.lists(st.floats(-1e15, 1e15) | st.integers(-(2**60), 2**60), min_size=2))
def test_means_and_quartiles_match_the_standard_library(values: list[float]) -> None:
    assert mean(values) == statistics.fmean(values)
    assert median(values) == statistics.median(values)
    quarters = [float(quartile(values, number)) for number in (1, 2, 3)]
    assert quarters == statistics.quantiles(values, n=4, method="inclusive")


def test_quartiles_of_one_value_equal_it() -> None:
    assert [quartile([7.5], number) for number in range(5)] == [7.5] * 5


def a_place(text: str, column: int, length: int = 1, line: int = 14) -> SourceLocation:
    return SourceLocation(file="tasks/a.yaml", line=line, column=column, text=text, length=length)


def test_problem_is_printed_like_a_compiler_message() -> None:
    problem = Problem(
        code="unknown-key",
        message="'modle' is not a setting of train",
        place=a_place("      modle: xception", 7, 5),
        hint="did you mean 'model'?",
        notes=("known: batch, model",),
    )
    assert str(problem) == (
        "error[unknown-key]: 'modle' is not a setting of train\n"
        "  --> tasks/a.yaml:14:7\n"
        "   |\n"
        "14 |       modle: xception\n"
        "   |       ^^^^^ did you mean 'model'?\n"
        "   = known: batch, model"
    )


def test_problem_without_a_location_prints_its_help() -> None:
    problem = Problem(
        code="x", message="no", severity=Severity.WARNING, hint="do this", notes=("a",)
    )
    assert str(problem) == "warning[x]: no\n  = help: do this\n  = a"


@pytest.mark.parametrize(
    ("text", "column", "length", "shown", "marks"),
    [
        ("\tlr: x", 6, 1, "\tlr: x", "\t    ^"),
        ("é: ü", 4, 1, "é: ü", "   ^"),
        ("漢字: x", 5, 1, "漢字: x", "      ^"),
        ("漢字", 1, 2, "漢字", "^^^^"),
        ("a\u0301: x", 5, 1, "a\u0301: x", "   ^"),
        ("x", 2, 1, "x", " ^"),
        ("", 1, 1, "", "^"),
        ("a\x1b[31mb: x", 9, 1, "a·[31mb: x", "        ^"),
    ],
)
def test_caret_is_below_its_word(
    text: str, column: int, length: int, shown: str, marks: str
) -> None:
    lines = str(Problem(code="x", message="m", place=a_place(text, column, length))).split("\n")
    assert lines[3] == f"14 | {shown}".rstrip()
    assert lines[4] == f"   | {marks}"


@given(st.integers(1, 5000), st.integers(1, 3000))
def test_a_long_line_is_cut_around_the_caret(column: int, length: int) -> None:
    text = "x" * (column - 1) + "!" + "y" * 2000
    lines = str(Problem(code="x", message="m", place=a_place(text, column, length))).split("\n")
    shown, marks = lines[3].removeprefix("14 | "), lines[4].removeprefix("   | ")
    assert len(shown) <= WIDTH + 2
    assert len(marks) <= WIDTH + 2
    assert shown[marks.index("^")] == "!"


def test_at_most_twenty_problems_are_printed_and_the_rest_counted() -> None:
    problem = Problem(code="x", message="m", place=a_place("a", 1))
    warning = Problem(code="w", message="m", place=a_place("a", 1), severity=Severity.WARNING)
    assert str(TaskFileError([problem, warning])).endswith(
        "\n\n1 error in tasks/a.yaml; nothing was queued"
    )
    many = TaskFileError([problem] * (MOST_PROBLEMS + 5))
    assert str(many).count("error[x]") == MOST_PROBLEMS
    assert many.summary == (
        "25 errors in tasks/a.yaml (the first 20 are shown); nothing was queued"
    )
    assert TaskFileError([Problem(code="x", message="m")]).summary == "1 error; nothing was queued"


def test_exit_codes_are_attributes_of_the_classes() -> None:
    assert [one.exit_code for one in (Error, UsageError, IdError, TaskFileError, JobError)] == [
        *(3, 2, 2, 2, 1)
    ]
    assert MachineError.exit_code == 3


def test_unknown_name_suggests_the_nearest_and_lists_known_names() -> None:
    error = UnknownName("subset", "gna2", ["gan2", "flux", "real"])
    assert error.suggestion == "gan2"
    assert str(error) == "unknown subset 'gna2' (known: flux, gan2, real). Did you mean 'gan2'?"
    assert UnknownName("subset", "zzz", ["gan2"]).suggestion is None


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("modle", ["model", "mode"], "model"),
        ("SDXL", ["sdXL", "sd15"], "sdXL"),
        ("lr", [], None),
        ("quite different", ["model"], None),
        ("logs", ["lgos", "logs"], "logs"),
        ("ls", ["logs", "add"], "logs"),
        ("mode", ["num_modes", "modality", "modal"], "modal"),
        ("resnet19", ["mesonet", "mobilenet", "residuals", "squeezenet"], None),
        ("nope", ["open"], None),
        ("amp", ["name"], None),
        ("cuda", ["cwd"], None),
        ("lgs", ["logs"], "logs"),
        ("seed", ["share", "reuse", "phases"], None),
        ("colour", ["sources", "accuracy", "loss", "confusion", "condition"], None),
        ("dot:pre#line:pre", ["dot:pre%20", "dot:pre"], "dot:pre"),
    ],
)
def test_the_nearest_name_is_found(name: str, known: list[str], found: str | None) -> None:
    assert nearest(name, known) == found


def test_known_words_are_listed_if_no_command_lists_them_and_none_is_close() -> None:
    names = [f"column{n}" for n in range(20)]
    assert list_known_names("zzz", names) == f"known: {', '.join(names)}"
    assert list_known_names("zzz", names, "launcher kinds") == "see all 20: launcher kinds"
    assert list_known_names("colunm7", names, "launcher kinds").startswith(
        "closest of 20: column7, "
    )


def test_things_are_counted_in_english() -> None:
    assert [pluralize(n, "job") for n in (0, 1, 2, 12345)] == [
        "0 jobs",
        "1 job",
        "2 jobs",
        "12,345 jobs",
    ]


def test_a_pause_doubles_up_to_the_longest_one() -> None:
    pauses = [exponential_backoff_s(1.5, times, 10.0) for times in range(5)]
    assert pauses == [1.5, 3.0, 6.0, 10.0, 10.0]
    assert exponential_backoff_s(0.001, 10**6, 3600.0) == 3600.0
    assert exponential_backoff_s(0.0, 10**6, 3600.0) == 0.0
