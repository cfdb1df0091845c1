"""Screens in a file: written, read, damaged, and shown again in their time."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import UsageError
from launcher.screens.dashboard.screen_recording import Recorder, read_day, read_screen, screen_text
from launcher.screens.dashboard.sources import Replay
from launcher.screens.queue_view import screen_lines
from launcher.screens.text_table import width_of
from launcher.states import State
from launcher.workers.progress.steps import Step
from tests.build import Clock
from tests.screens import a_busy_screen, a_host, a_line, an_idle_screen

DAY = Path(__file__).parents[3] / "data" / "day.jsonl"
LARGEST = 250_000  # bytes of the recorded day


@pytest.mark.parametrize(
    "screen",
    [
        an_idle_screen(),
        a_busy_screen(),
        replace(a_busy_screen(), found=(a_line(7, "train/vit", State.DONE),), sought="vit"),
    ],
)
def test_a_screen_is_read_as_it_was_written(screen: object) -> None:
    assert read_screen(screen_text(screen)) == screen  # type: ignore[arg-type]  # one of ours


def test_only_what_has_changed_is_written_down() -> None:
    file = io.StringIO()
    recorder, screen = Recorder(file), a_busy_screen()
    recorder.add(screen)
    recorder.add(replace(screen, at=screen.at + 1))
    recorder.add(replace(screen, at=screen.at + 2, waiting=()))
    first, second = (json.loads(text) for text in file.getvalue().splitlines())
    assert (first["schema"], second["at"] - first["at"]) == (1, 2)


def test_the_machine_alone_is_not_written_down_each_second() -> None:
    file = io.StringIO()
    recorder, screen = Recorder(file), a_busy_screen()
    recorder.add(screen)
    recorder.add(replace(screen, host=a_host(busy=1.5, load=2.0)))
    recorder.add(replace(screen, host=a_host(busy=1.5), waiting=()))
    hosts = [json.loads(text)["host"]["busy"] for text in file.getvalue().splitlines()]
    assert hosts == [7.4, 1.5]


def test_a_recording_that_breaks_off_in_its_last_line_is_shown_as_far_as_it_goes(
    tmp_path: Path,
) -> None:
    file, whole = tmp_path / "day.jsonl", screen_text(a_busy_screen())
    file.write_text(f"{whole}\n{whole[:500]}")
    assert read_day(file) == [a_busy_screen()]
    file.write_text(whole[:500])
    with pytest.raises(UsageError, match="no JSON"):
        read_day(file)


def changed(**parts: object) -> str:
    record = json.loads(screen_text(a_busy_screen()))
    return json.dumps({**record, **parts})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "no JSON: "),
        ("[]", "no screen of schema 1"),
        ('{"schema": 2}', "no screen of schema 1"),
        ('{"schema": 1}', "screen lacks its at"),
        (changed(moon=1), "screen has no moon"),
        (changed(at="noon"), 'screen.at is no float: "noon"'),
        (changed(at=True), "screen.at is no float: true"),
        (changed(counts={"lost": 1}), 'screen.counts is no State: "lost"'),
        (changed(counts={"done": "1"}), 'screen.counts.done is no int: "1"'),
        (changed(running=[{}]), "screen.running[0] lacks its line"),
        (changed(groups=7), "screen.groups is no "),
        (changed(busy={"GPU-0": [1, None]}), "screen.busy.GPU-0[1] is no float: null"),
        (changed(at=float("nan")), "screen.at is no float: NaN"),
        (changed(left_s=float("inf")), "screen.left_s is no float: Infinity"),
        (changed(left_s=10**400), "screen.left_s is no float: 1000"),
        (changed(at=1e12), "screen.at is no time: 1000000000000.0"),
        (changed(at=-1), "screen.at is no time: -1"),
        ("[" * 100_000, "no JSON: "),
    ],
)
def test_a_damaged_line_is_named_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "day.jsonl"
    file.write_text(f"{screen_text(an_idle_screen())}\n\n{text}\n")
    with pytest.raises(UsageError) as caught:
        read_day(file)
    assert str(caught.value).startswith(f"{file}:3: {told}")


def test_what_a_foreign_file_says_cannot_steer_the_terminal() -> None:
    evil = "\x1b[31m"
    screen = a_busy_screen()
    work = screen.running[0]
    step = Step(at=screen.at, step=1, total=2, metrics={evil: [evil]})
    running = (replace(work, line=replace(work.line, name=evil, note=evil), step=step),)
    text = screen_text(replace(screen, home=evil, running=running, active={evil: (1, 2)}))
    lines = screen_lines(read_screen(text), 200)
    assert any("\\x1b[31m" in one.text for one in lines)
    assert not any("\x1b" in one.text for one in lines)


def test_a_file_without_screens_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "day.jsonl"
    with pytest.raises(UsageError, match="cannot read the recording"):
        read_day(file)
    file.write_bytes(b"\xff\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_day(file)
    file.write_text("\n")
    with pytest.raises(UsageError, match="`launcher top --record FILE` makes a recording"):
        read_day(file)


def test_a_recording_is_shown_in_its_own_time() -> None:
    clock, first = Clock(), a_busy_screen()
    later = replace(first, at=first.at + 60, waiting=())
    replay = Replay([first, later], speed=10, clock=clock)
    assert replay.look(waiting=40, sought="") == first
    clock.now += 3
    now = replay.look(waiting=40, sought="")
    assert (now.at - first.at, len(now.waiting)) == (30, 5)
    assert replay.note == "a recording"
    clock.now += 100
    assert replay.look(waiting=40, sought="") == later
    assert replay.note == "the recording ends here"


def test_a_recording_can_be_searched() -> None:
    replay = Replay([a_busy_screen()])
    assert len(replay.look(waiting=2, sought="").waiting) == 2
    assert replay.look(waiting=2, sought="").more == 29
    found = replay.look(waiting=2, sought="gan2").found or ()
    assert [one.id for one in found] == [41, 42, 40]
    assert [one.id for one in replay.look(waiting=40, sought="44").found or ()] == [44]
    assert replay.look(waiting=40, sought="train/s*").found


def test_the_recorded_day_replays_at_any_width() -> None:
    day = read_day(DAY)
    assert DAY.stat().st_size <= LARGEST
    assert len(day) >= 30
    for screen in day:
        for width in (80, 120, 200):
            assert max(width_of(one.text) for one in screen_lines(screen, width)) <= width


def test_the_recorded_day_tells_of_all_that_matters() -> None:
    day = read_day(DAY)
    told = "\n".join(one.text for screen in day for one in screen_lines(screen, 300))
    for text in (
        "ben: ",
        "needs ",
        "GiB free",
        "out of memory",
        "FileNotFoundError",
        "held",
        "auc=",
    ):
        assert text in told, text
    assert "root" not in told
    assert "/tmp" not in told
