"""What is drawn of a whole screen, as people see it."""

from pathlib import Path

import pytest

from launcher.screens.gpu_view import LEGEND
from launcher.screens.queue_view import head, jobs_listed, recent, running, screen_lines
from launcher.screens.terminal import in_ascii
from launcher.screens.text_table import Tone, width_of
from launcher.states import State
from launcher.workers.progress.steps import Step
from tests.screens import NOW, a_busy_screen, a_line, an_idle_screen

GOLDEN = Path(__file__).parents[2] / "data" / "golden"


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_screen_is_drawn_at_any_width(width: int) -> None:
    drawn = [one.text for one in screen_lines(a_busy_screen(), width)]
    assert "\n".join([*drawn, ""]) == (GOLDEN / f"screen-{width}.txt").read_text()


@pytest.mark.parametrize("width", [1, 20, 40, 80, 81, 100, 120, 200, 400])
def test_no_line_is_longer_than_the_screen_is_wide(width: int) -> None:
    assert max(width_of(one.text) for one in screen_lines(a_busy_screen(), width)) <= width


def test_an_empty_queue_is_drawn_in_two_lines() -> None:
    drawn = [one.text for one in screen_lines(an_idle_screen(), 80)]
    assert drawn[1:] == ["no jobs"]
    assert drawn[0].startswith("launcher  ~/.local/state/launcher  scheduler absent ")


def test_every_character_has_a_twin_of_one_column_in_ascii() -> None:
    for one in screen_lines(a_busy_screen(), 120):
        assert in_ascii(one.text).count("?") == one.text.count("?")
        assert len(in_ascii(one.text)) == len(one.text)


def test_a_line_knows_the_job_that_it_is_about() -> None:
    about = [one.job for one in screen_lines(a_busy_screen(), 80) if one.job is not None]
    assert list(dict.fromkeys(about)) == [41, 42, 43, 44, 45, 46, 47, 48, 40, 39]
    assert about.count(44) > 2, "a long reason runs over several lines"


def test_a_reason_is_not_told_twice_in_a_row() -> None:
    drawn = "\n".join(one.text for one in screen_lines(a_busy_screen(), 140))
    assert drawn.count("behind job 44") == 1
    assert drawn.count("as above") == 1


def test_of_a_reason_only_what_differs_from_the_one_above_is_told() -> None:
    free = "cuda:0 has 8.6 GiB free, 2 GiB of it promised to job 41"
    parts = (("needs 18 GiB", free), ("needs 24 GiB", free), ("needs 24 GiB", free), ("new", ""))
    notes = ["; ".join(filter(None, both)) for both in parts]
    lines = [
        a_line(number, "train/a", State.QUEUED, note, need=need, situation=situation)
        for number, (note, (need, situation)) in enumerate(zip(notes, parts, strict=True))
    ]
    drawn = screen_lines(an_idle_screen()._replace(waiting=tuple(lines)), 140)[-4:]
    told = [one.text.partition("train/a")[2].split(maxsplit=1)[1] for one in drawn]
    assert told == [notes[0], "needs 24 GiB; as above", "as above", "new"]


def test_a_job_that_took_more_than_it_asked_is_marked() -> None:
    (marked,) = [one for one in screen_lines(a_busy_screen(), 140) if "▲" in one.text]
    assert marked.job == 42
    assert "18.0 / 19.0 / 18.0 ▲" in marked.text


@pytest.mark.parametrize(("ago_s", "left"), [(0, "10 s"), (4, "6 s"), (11, "–")])
def test_what_is_left_is_counted_from_the_last_report(ago_s: int, left: str) -> None:
    step = Step(at=NOW - ago_s, step=10, total=20, metrics={}, rate=1.0)
    times = {"since": NOW - 60, "ends": step.ends(NOW)}
    work = a_line(1, "command/1", State.RUNNING, str(step), step=step, **times)
    (_, drawn) = running(an_idle_screen()._replace(running=(work,))).drawn(100)
    assert drawn.text.endswith(f"1 m  {left:>4}")


def test_failures_stand_out_and_name_the_next_command() -> None:
    failed = [one for one in screen_lines(a_busy_screen(), 140) if one.job == 39]
    assert "→ launcher logs 39" in " ".join(one.text for one in failed)
    assert {span.tone for span in failed[0].spans} >= {Tone.BAD}


def test_a_job_that_is_queued_again_says_so_even_where_the_reason_does_not() -> None:
    screen = a_busy_screen()
    again = screen.recent[1]._replace(note="ended with exit code 1", requeued=False)
    drawn = screen_lines(screen._replace(recent=(again,)), 140)
    assert "ended with exit code 1 (queued again)" in drawn[-2].text


def test_how_long_it_takes_is_said_only_where_it_is_known() -> None:
    screen = a_busy_screen()
    assert "about 4 h 20 m left (18:52)" in head(screen, 100)[2].text
    assert "about" not in head(screen._replace(left_s=None), 100)[2].text


def test_how_long_it_takes_is_said_without_a_run_and_however_long_it_is() -> None:
    screen = an_idle_screen()._replace(left_s=15_600.0)
    assert head(screen, 100)[1].text == "about 4 h 20 m left (18:52)"
    assert head(screen._replace(left_s=1e13), 100)[1].text == "about 115740740 d 17 h left"


def test_jobs_of_any_state_are_listed_with_it_in_words() -> None:
    jobs = [a_line(number, "command/1", state) for number, state in enumerate(State, start=1)]
    drawn = jobs_listed(jobs, NOW).drawn(100)
    assert [one.job for one in drawn] == [*range(1, len(State) + 1)]
    assert all(str(job.state) in one.text for job, one in zip(jobs, drawn, strict=True))


def test_what_was_looked_for_takes_the_place_of_the_sections() -> None:
    screen = a_busy_screen()
    nothing = screen_lines(screen._replace(found=(), sought="vit"), 80)
    texts = [one.text for one in nothing]
    assert texts.count("no job matches 'vit'") == 1
    assert texts.index("no job matches 'vit'") < texts.index(LEGEND), "above what lies beside it"
    found = screen._replace(found=(a_line(7, "train/vit", State.DONE),), sought="vit")
    drawn = "\n".join(one.text for one in screen_lines(found, 80))
    assert "FOUND vit" in drawn
    assert "RECENT" not in drawn


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize(
    ("before", "exception", "kept"),
    [
        ("", "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"
         " a total capacity of 39.39 GiB of which 1.2 GiB is free", "OutOfMemoryError: CUDA out of"),
        ("ended with exit code 1: ", "FileNotFoundError: [Errno 2] No such file or directory: "
         + "'/data/" + "long/" * 40 + "list.csv'", "FileNotFoundError: [Errno 2] No such file"),
        ("", "KeyError", "KeyError"),
    ],
)  # fmt: skip
def test_of_an_exception_its_class_and_the_beginning_of_its_message_stay(
    width: int, before: str, exception: str, kept: str
) -> None:
    ended = a_busy_screen().recent[2]._replace(note=f"{before}{exception}", short=exception)
    drawn = recent(an_idle_screen()._replace(recent=(ended,))).drawn(width)[1:]
    begin = drawn[0].text.index(" 2 s  ") + len(" 2 s  ")
    told = " ".join(one.text[begin:] for one in drawn)
    assert kept in told
    assert told.endswith("→ launcher logs 39")
    assert len(drawn) <= 3
