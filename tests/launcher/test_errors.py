import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import (
    MOST_PROBLEMS,
    WIDTH,
    Error,
    IdError,
    JobError,
    MachineError,
    Place,
    Problem,
    Severity,
    TaskFileError,
    UnknownName,
    UsageError,
    counted,
    nearest,
)


def a_place(text: str, column: int, length: int = 1, line: int = 14) -> Place:
    return Place(file="tasks/a.yaml", line=line, column=column, text=text, length=length)


def test_a_problem_is_drawn_like_a_compiler_draws_it() -> None:
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


def test_a_problem_without_a_place_tells_its_help() -> None:
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
def test_the_caret_stands_below_its_word(
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


def test_all_problems_are_told_up_to_twenty_and_counted() -> None:
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


def test_exit_codes_lie_on_the_classes() -> None:
    assert [one.exit_code for one in (Error, UsageError, IdError, TaskFileError, JobError)] == [
        *(3, 2, 2, 2, 1)
    ]
    assert MachineError.exit_code == 3


def test_an_unknown_name_suggests_the_nearest_and_lists_the_known() -> None:
    error = UnknownName("subset", "gna2", ["gan2", "flux", "real"])
    assert error.suggestion == "gan2"
    assert str(error) == ("unknown subset 'gna2', did you mean gan2? (known: flux, gan2, real)")
    assert UnknownName("subset", "zzz", ["gan2"]).suggestion is None


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("modle", ["model", "mode"], "model"),
        ("SDXL", ["sdXL", "sd15"], "sdXL"),
        ("lr", [], None),
        ("quite different", ["model"], None),
    ],
)
def test_the_nearest_name_is_found(name: str, known: list[str], found: str | None) -> None:
    assert nearest(name, known) == found


def test_things_are_counted_in_english() -> None:
    assert [counted(n, "job") for n in (0, 1, 2, 12345)] == [
        "0 jobs",
        "1 job",
        "2 jobs",
        "12,345 jobs",
    ]
