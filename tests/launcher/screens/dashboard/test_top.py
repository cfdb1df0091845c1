"""`launcher top`, driven key by key in a terminal that does not exist."""

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from textual.events import Paste

from launcher.screens.dashboard.keys import help_page
from launcher.screens.dashboard.overview_page import Overview
from launcher.screens.dashboard.page import LONGEST
from launcher.screens.dashboard.widgets import Canvas
from launcher.screens.gpu_view import GpuView
from launcher.screens.snapshots import QueueSnapshot, QueueSnapshotReader
from launcher.states import Done, State
from launcher.store.queue import Store
from launcher.system.daemon_control import scheduler_pid
from launcher.system.paths import Home
from tests.build import DEADLINE_S, a_gpu, a_spec, claimed, enqueue, in_state, job_row, until
from tests.launcher.conftest import Launcher
from tests.nvml.standin import GIB, Devices, asked_here
from tests.screens import a_busy_screen
from tests.top import Person, on_a_screen, on_the_queue, play, report

GOLDEN = Path(__file__).parents[3] / "data" / "golden"
REFUSED = (  # the place of a job in the list, a key, and what it answers
    (0, "h", "a running job cannot be held; p pauses it, c cancels it"),
    (0, "l", "is running: only a held job can be released"),
    (0, "r", "is running: only ended jobs can be retried"),
    (0, "+", "is running: only waiting jobs have a priority"),
    (2, "l", "is queued: only a held job can be released"),
    (4, "c", "is failed, so there is nothing to cancel"),
    (4, "h", "is failed: only a queued job can be held"),
    (0, "u", "is not paused"),
    (2, "p", "is queued: only a running job can be paused"),
    (2, "u", "is queued: only a paused job can be resumed"),
)


# --- the picture


@pytest.mark.parametrize("width", [80, 120, 200])
def test_screen_matches_the_recorded_screen(home: Home, store: Store, width: int) -> None:
    async def story(person: Person) -> None:
        await person.press("j", "tab")
        assert f"{person.text}\n" == (GOLDEN / f"top-{width}.txt").read_text()

    height = {80: 24, 120: 40, 200: 50}[width]
    on_a_screen(home, a_busy_screen(), story, size=(width, height))


@pytest.mark.parametrize("size", [(1, 2), (20, 5), (300, 100)])
def test_top_draws_at_any_terminal_size(home: Home, store: Store, size: tuple[int, int]) -> None:
    async def story(person: Person) -> None:
        for key in ("j", "k", "G", "g", "pagedown", "pageup", "tab", "?", "q", "/", "x", "enter"):
            await person.press(key)
            assert len(person.lines) == size[1]

    on_a_screen(home, a_busy_screen(), story, size=size)


def test_empty_queue_shows_how_to_add_jobs(home: Home) -> None:
    async def story(person: Person) -> None:
        assert (
            "no queue yet. To make one: launcher run TASKFILE, or launcher add -- PROGRAM"
            in person.text
        )
        await person.after("j enter", bottom="no job is chosen")
        enqueue(store := Store(home), "train/first")
        store.close()
        await person.look()
        assert "train/first" in person.chosen

    on_the_queue(home, story)


# --- moving


def test_cursor_moves_from_job_to_job(jobs: list[int], home: Home) -> None:
    async def story(person: Person) -> None:
        assert "train/a" in person.chosen
        await person.after("j", chosen="train/b")
        await person.after("down", chosen="train/c")
        await person.after("k up up", chosen="train/a")
        await person.after("tab", chosen="train/c")
        await person.after("shift+tab", chosen="train/a")
        await person.after("G", chosen="failed")
        await person.after("home", chosen="train/a")
        await person.after("end g pagedown", chosen="failed")
        await person.after("pageup", chosen="train/a")

    on_the_queue(home, story)


def test_cursor_stays_on_its_job_then_on_its_row(home: Home, store: Store) -> None:
    jobs = enqueue(store, *(f"train/{name}" for name in "abcd"))

    async def story(person: Person) -> None:
        await person.after("j j", chosen="train/c")
        store.job_control.cancel([jobs[0]], 1.0)
        await person.look()
        assert "○ train/c" in person.chosen
        claimed(store, jobs[2])
        await person.look()
        assert "● train/c" in person.chosen, "it follows a job that starts"

    on_the_queue(home, story)


def test_view_stays_at_the_top_without_key_presses(home: Home, store: Store) -> None:
    first, *_ = enqueue(store, *(f"train/{number:02}" for number in range(60)))

    async def story(person: Person) -> None:
        claim = claimed(store, first)
        await person.look()
        assert "train/00" in person.chosen
        store.scheduler_actions.finish_attempt(claim, Done(at=2.0), outputs={}, now=2.0)
        await person.look()
        assert "train/01" in person.chosen
        await person.press("j", "j", "g")
        await person.look()
        assert "train/01" in person.chosen

    on_the_queue(home, story)


def test_cursor_below_the_window_is_scrolled_into_view(home: Home, store: Store) -> None:
    async def story(person: Person) -> None:
        assert person.chosen == ""
        await person.after("j", chosen="train/gan2")
        assert person.chosen == person.lines[-2]
        await person.press("k")
        assert person.chosen == ""

    on_a_screen(home, a_busy_screen(), story, size=(80, 12))


def test_long_list_loads_more_jobs_while_scrolling(home: Home, store: Store) -> None:
    enqueue(store, *(f"train/{number:03}" for number in range(700)))

    async def story(person: Person) -> None:
        shown: set[int] = set()
        for _ in range(14):
            await person.press("pagedown")
            await person.look()
            assert person.top.snapshot is not None
            shown.add(len(person.top.snapshot.waiting))
        assert min(shown) < 300
        assert max(shown) == 500
        await person.after("G", "200 more jobs wait")

    on_the_queue(home, story, size=(80, 100))


def test_filter_applies_while_typing_and_is_kept_or_cleared(jobs: list[int], home: Home) -> None:
    async def story(person: Person) -> None:
        await person.press("/")
        await person.type("test/q")
        assert person.bottom.startswith("filter: test/q")
        assert "no job matches 'test/q'" in person.text
        await person.press("ctrl+u", *"train/", "tab", "down", "down", "up")
        assert "train/b" in person.chosen, "arrows move the cursor meanwhile"
        await person.press("ctrl+u", *"test/q", "ctrl+h", "enter")
        assert "test/c" in person.chosen
        assert "train/a" not in person.text
        assert person.bottom.startswith("filter: test/, Esc shows all")
        await person.press("h", "y")
        assert "‖ held" in person.chosen, "it is looked for again"
        await person.after("escape", "train/a")
        await person.press("/")
        await person.type("[x")
        assert person.bottom.startswith("filter: [x")
        await person.after("escape", "train/a")

    on_the_queue(home, story)


@pytest.mark.parametrize(
    ("width", "bottom"),
    [
        (1, "…"),
        (20, "filter: 90123456789"),
        (44, "filter: 3456789   Enter keeps  Esc shows all"),
        (80, "filter: 01234567890123456789" + " " * 26 + "Enter keeps  Esc shows all"),
    ],
)
def test_typed_text_has_room_at_any_width(
    jobs: list[int], home: Home, width: int, bottom: str
) -> None:
    async def story(person: Person) -> None:
        await person.press("/")
        await person.type("0123456789" * 2)
        assert person.bottom == bottom

    on_the_queue(home, story, size=(width, 5))


def test_pasted_text_goes_only_to_the_filter(jobs: list[int], home: Home) -> None:
    async def story(person: Person) -> None:
        person.top.post_message(Paste("cq"))
        await person.look()
        assert "help" in person.bottom
        await person.press("/")
        person.top.post_message(Paste("train/b\x1b\nq"))
        await person.look()
        assert person.bottom.startswith("filter: train/b")
        assert "train/b" in person.chosen

    on_the_queue(home, story)


def test_pasted_text_is_cut_at_the_limit(jobs: list[int], home: Home) -> None:
    async def story(person: Person) -> None:
        await person.press("/", "a", "b", "left")
        person.top.post_message(Paste("x" * 2 * LONGEST))
        await person.look()
        typed = person.bottom.removeprefix("filter: ").partition(" ")[0]
        assert typed == f"a{'x' * (LONGEST - 2)}b"
        await person.after("y end backspace z enter", "no job matches")
        await person.press("/")
        assert person.bottom.startswith(f"filter: a{'x' * (LONGEST - 2)}z ")

    on_the_queue(home, story, size=(LONGEST + 60, 24))


# --- opened jobs


def test_job_has_three_pages(jobs: list[int], home: Home) -> None:
    async def story(person: Person) -> None:
        await person.press("enter")
        assert f"train/a  job {jobs[0]} of test, running" in person.lines[0]
        for text in ("[1 overview]", "attempts", "events", "lr", "0.1", "30/90 loss=0.03333"):
            assert text in person.text
        await person.after("2", "epoch 100", "follows")
        with home.attempt(jobs[0], 1).log.open("a") as log:
            log.write("one more\x1b[2J\n")
        await person.look()
        assert "one more\\x1b[2J" in person.text
        await person.after("k", "line 81 of 101; G follows again")
        await person.after("g", "epoch 1\n")
        await person.after("G", "follows")
        await person.after("tab", "loss  0.03333  metric 1 of 3")
        await person.press("]")
        assert person.lines[3].startswith("auc  0.9  metric 2 of 3")
        await person.press("[", "[")
        assert person.lines[3].startswith("rate  1/s  metric 3 of 3")
        await person.after("1 escape", chosen="train/a")

    on_the_queue(home, story)


def test_opened_job_is_refreshed(jobs: list[int], home: Home) -> None:
    async def story(person: Person) -> None:
        await person.after("enter", "30/90")
        report(home, jobs[0], 60)
        deadline = time.monotonic() + DEADLINE_S
        while "60/90" not in person.text:
            assert time.monotonic() < deadline, person.text
            await asyncio.sleep(0.05)
            await person.look()

    on_the_queue(home, story)


def test_w_opens_the_reason_of_a_job(jobs: list[int], home: Home) -> None:
    async def story(person: Person) -> None:
        await person.after("G w", "KeyError: 'lr'", "events, the newest first")

    on_the_queue(home, story)


def test_job_that_never_started_has_no_log_or_metrics(jobs: list[int], home: Home) -> None:
    async def story(person: Person) -> None:
        await person.after("j j enter 2", "it has not run yet")
        await person.after("3", "reported no numbers")

    on_the_queue(home, story)


def test_long_log_is_read_from_its_end(jobs: list[int], home: Home) -> None:
    home.attempt(jobs[0], 1).log.write_bytes(b"x" * 79 + b"\n" + b"y" * (1 << 20) + b"\nend\n")

    async def story(person: Person) -> None:
        await person.after("enter 2", "end")
        assert "xxx" not in person.text
        await person.after("g", "xxx")
        await person.after("pagedown G", "end", "follows")

    on_the_queue(home, story)


def test_log_without_line_ends_is_shown(jobs: list[int], home: Home) -> None:
    home.attempt(jobs[0], 1).log.write_bytes(b"a" + b"x" * (1 << 20) + b"the end")

    async def story(person: Person) -> None:
        await person.after("enter 2", "xxx", "the end")
        await person.after("g", "axxx")
        assert "the end" not in person.text

    on_the_queue(home, story)


def test_scroll_position_is_kept_while_the_log_grows(jobs: list[int], home: Home) -> None:
    log = home.attempt(jobs[0], 1).log
    log.write_text("".join(f"line {number}\n" for number in range(200_000)))

    async def story(person: Person) -> None:
        await person.press("enter", "2", "pageup")
        before = person.lines
        with log.open("a") as file:
            file.write("more\n" * 100)
        await person.look()
        assert person.lines == before
        await person.after("G", "more")

    on_the_queue(home, story)


def test_metric_without_finite_values_is_left_out(jobs: list[int], home: Home) -> None:
    with home.attempt(jobs[0], 1).progress.open("w") as file:
        for step in (1, 2):
            metrics = {"loss": 0.5, "count": 10**400}
            told = {"at": float(step), "step": step, "total": 2, "metrics": metrics}
            file.write(json.dumps(told) + "\n")

    async def story(person: Person) -> None:
        await person.after("enter 3", "loss  0.5  metric 1 of 3")
        await person.after("]", "count  inf  metric 2 of 3", "no numbers yet")

    on_the_queue(home, story)


def test_page_of_a_deleted_job_is_closed(home: Home, store: Store) -> None:
    (job,) = enqueue(store, "train/a")

    async def story(person: Person) -> None:
        await person.press("enter")
        store.job_control.cancel([job], 1.0)
        store.job_control.delete_jobs([job])
        deadline = time.monotonic() + 10
        # a page asks the queue for a small share of the time only
        while person.bottom != f"job {job} was cleaned":
            assert time.monotonic() < deadline, person.bottom
            await asyncio.sleep(0.05)
            await person.look()

    on_the_queue(home, story)


# --- changes


def test_change_is_applied_only_after_confirmation(
    jobs: list[int], home: Home, store: Store
) -> None:
    waiting = jobs[2]

    async def story(person: Person) -> None:
        await person.after(
            "j j h", bottom=f"hold job {waiting} train/c? It starts only after it is released  y/n"
        )
        await person.after("n", bottom="nothing was changed")
        assert in_state(store, waiting, State.QUEUED)
        await person.after("h y", bottom=f"job {waiting} train/c held")
        assert in_state(store, waiting, State.HELD)
        assert "‖ train/c" in person.chosen

        await person.after("+", bottom=f"priority of job {waiting} train/c: 0 → 1?  y/n")
        await person.press("y", "+", "y", "-", "y")
        assert job_row(store, waiting).priority == 1

        await person.press("c")
        told = "? 1 job that needs it will be skipped  y/n"
        assert person.bottom == f"cancel job {waiting} train/c{told}"
        await person.press("y")
        assert in_state(store, waiting, State.CANCELLED)
        assert in_state(store, jobs[3], State.SKIPPED)

    on_the_queue(home, story)


@pytest.mark.parametrize("width", [20, 80])
def test_question_always_shows_the_answer_keys(home: Home, store: Store, width: int) -> None:
    long = "train/" + "gan2:pre&real:pre+" * 20
    (first, _) = enqueue(store, long, "test/it", needs={"test/it": [long]})

    async def story(person: Person) -> None:
        await person.press("c")
        assert person.bottom.endswith("  y/n")
        assert person.bottom.startswith(f"cancel job {first}")
        if width >= 80:
            assert "? 1 job that needs it will be skipped" in person.bottom

    on_the_queue(home, story, size=(width, 24))


def test_running_job_is_cancelled_gracefully(jobs: list[int], home: Home, store: Store) -> None:
    async def story(person: Person) -> None:
        await person.after("enter c", bottom=f"end running job {jobs[0]} train/a?  y/n")
        await person.after("y", bottom=f"job {jobs[0]} train/a will end")
        assert job_row(store, jobs[0]).wish == "cancel"

    on_the_queue(home, story)


def test_waiting_for_the_scheduler_does_not_block_the_screen(home: Home, store: Store) -> None:
    (job,) = enqueue(store, "train/a")
    store.job_control.hold([job], 1.0)

    async def story(person: Person) -> None:
        await person.after("l", bottom=f"release job {job} train/a?  y/n")
        await person.after("y", bottom=f"job {job} train/a released")
        await asyncio.to_thread(until, lambda: scheduler_pid(home), "a scheduler is started")
        await asyncio.to_thread(until, lambda: in_state_apart(home, job), "the job is done")
        await person.look()
        assert "✓ done" in person.text

    on_the_queue(home, story)


def in_state_apart(home: Home, job: int) -> bool:
    with closing(Store(home)) as store:
        return in_state(store, job, State.DONE)


def test_failed_job_can_be_retried(jobs: list[int], home: Home, store: Store) -> None:
    home.stop_record.write_text('{"schema": 1, "now": false, "at": 0.0}')

    async def story(person: Person) -> None:
        await person.after("G r", bottom=f"retry job {jobs[4]} train/d?  y/n")
        await person.after("y", bottom=f"job {jobs[4]} train/d queued again")
        await asyncio.to_thread(until, lambda: scheduler_pid(home), "a scheduler is started")

    on_the_queue(home, story)
    assert not home.stop_record.exists()


def test_refused_change_shows_the_reason(jobs: list[int], home: Home) -> None:
    async def story(person: Person) -> None:
        for place, key, told in REFUSED:
            await person.press("g", *"j" * place, key)
            assert told in person.bottom
            await person.press("j")
            assert "help" in person.bottom, "the next key takes the message away"

    on_the_queue(home, story)


def test_changed_job_is_not_modified(home: Home, store: Store) -> None:
    (job,) = enqueue(store, "train/a")

    async def story(person: Person) -> None:
        await person.press("m", "h")
        claimed(store, job)
        await person.after("y", bottom=f"job {job} changed in the meantime. Nothing was done")
        await person.press("x")
        assert person.bottom.startswith("1 marked, "), "it stays marked for what can be done now"

    on_the_queue(home, story)


def test_read_only_screen_changes_nothing(jobs: list[int], home: Home) -> None:
    async def story(person: Person) -> None:
        assert person.bottom.startswith("read only")
        assert "cancel" not in person.bottom
        await person.press("j", "j")
        for key in "hlcr+-":
            await person.press("x", "escape", key)
            assert person.bottom == "read only: jobs cannot be changed from here"

    on_the_queue(home, story, read_only=True)


# --- help, leaving, trouble


def test_help_lists_every_key_and_closes(jobs: list[int], home: Home) -> None:
    async def story(person: Person) -> None:
        await person.press("?")
        seen = person.text
        for _ in range(len(help_page(80)) // 10):
            await person.press("pagedown")
            seen += person.text
        for one in help_page(80):
            assert one.text.strip()[:30] in seen
        await person.after("q", chosen="train/a")

    on_the_queue(home, story)


@pytest.mark.parametrize(
    "keys", [("q",), ("ctrl+c",), ("enter", "ctrl+c"), ("h", "ctrl+c"), ("/", "ctrl+c")]
)
def test_top_exits_at_once(jobs: list[int], home: Home, keys: tuple[str, ...]) -> None:
    async def story(person: Person) -> None:
        await person.press(*keys)

    assert on_the_queue(home, story) == 0


class Broken(QueueSnapshotReader):
    """A queue whose database cannot be read now and then."""

    works = True

    def read_snapshot(
        self, *, waiting: int = 0, recent: int = 0, search_text: str = ""
    ) -> QueueSnapshot:
        if not self.works:
            raise sqlite3.OperationalError("disk I/O error")
        return super().read_snapshot(waiting=waiting, recent=10, search_text=search_text)


def test_read_error_is_shown_until_the_next_successful_read(jobs: list[int], home: Home) -> None:
    async def story(person: Person) -> None:
        queue.works = False
        await person.look()
        assert person.bottom == "disk I/O error"
        assert "train/a" in person.text
        queue.works = True
        await person.look()
        assert "help" in person.bottom

    with closing(Broken(home)) as queue:
        play(queue, story)


def test_top_exits_if_the_queue_is_deleted(jobs: list[int], home: Home, tmp_path: Path) -> None:
    async def story(person: Person) -> None:
        await person.press("enter", "c")
        assert "end running job" in person.bottom
        home.folder.rename(tmp_path / "away")
        await person.look()
        assert "no queue yet" in person.text
        assert person.bottom == "the queue was deleted or replaced"
        await person.after("y c", bottom="no job is chosen")
        assert "train/a" not in person.text
        (tmp_path / "away").rename(home.folder)
        await person.look()
        assert "train/a" in person.text

    on_the_queue(home, story)
    with closing(Store(home)) as store:
        assert job_row(store, jobs[0]).state is State.RUNNING


def test_unchanged_screen_is_not_redrawn(home: Home, store: Store) -> None:
    async def story(person: Person) -> None:
        canvas = person.top.query_one(Canvas)
        before = canvas.rows
        await person.look()
        assert canvas.rows == before
        assert not canvas._repaint_regions

    on_a_screen(home, a_busy_screen(), story)


def test_names_cannot_control_the_terminal(home: Home, store: Store) -> None:
    enqueue(store, a_spec("echo", "\x1b[2J", name="command/\x1b[31mred"))

    async def story(person: Person) -> None:
        for keys in ((), ("h",), ("n", "enter"), ("2",), ("q", "/", "\x1b")):
            await person.press(*[key for key in keys if key.isprintable()])
            assert "\x1b" not in person.text

    on_the_queue(home, story)


# --- the verb


def test_once_prints_one_screen_without_a_terminal(jobs: list[int], launcher: Launcher) -> None:
    said = launcher.well("top", "--once")
    assert "● train/a" in said.out


def test_once_waits_for_the_gpus(jobs: list[int], launcher: Launcher, gpus: Devices) -> None:
    card = gpus.add(used=0)
    gpus.hold(card, 1, 20 * GIB)
    with asked_here(gpus):
        drawn = launcher("top", "--once").out
    assert "cuda:0" in drawn
    assert "20.0/24.0" in drawn


def test_without_a_terminal_the_error_names_an_alternative(launcher: Launcher) -> None:
    assert "To print the screen once: launcher top --once" in launcher.refused("top")


def test_waiting_jobs_below_many_gpus_are_mentioned() -> None:
    screen = a_busy_screen()
    overview = Overview()
    overview.show(screen._replace(gpus=tuple(GpuView(gpu=a_gpu(number)) for number in range(16))))
    drawn = overview.draw(80, 24)
    assert len(drawn) == 24
    assert drawn[-1].text == "  … 31 waiting jobs below: Tab goes to the next section"
    for _ in range(2):
        overview.press("tab")
        drawn = overview.draw(80, 24)
    assert "waiting jobs below" not in drawn[-1].text
    assert any("WAITING" in one.text for one in drawn)
    assert len(drawn) == 24
