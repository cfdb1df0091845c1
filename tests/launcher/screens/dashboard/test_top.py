"""`launcher top`, driven key by key in a terminal that does not exist."""

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from textual.events import Paste

from launcher.frontends.screens import job_changes
from launcher.frontends.screens.dashboard.keys import help_page
from launcher.frontends.screens.dashboard.overview_page import Overview
from launcher.frontends.screens.dashboard.page import LONGEST
from launcher.frontends.screens.dashboard.widgets import Canvas
from launcher.frontends.screens.gpu_view import GpuView
from launcher.frontends.screens.snapshots import QueueSnapshot, QueueSnapshotReader
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from tests.build import a_gpu, a_spec, claimed, enqueue, in_state, job_row, until
from tests.launcher.conftest import Launcher
from tests.nvml.standin import GIB, Devices, asked_here
from tests.screens import a_busy_screen
from tests.top import User, report, run_on_queue, run_on_snapshot, run_top

GOLDEN = Path(__file__).parents[3] / "data" / "golden"


REFUSED = (  # keys that move to a job, key, message
    ("", "h", "a running job cannot be held; p pauses it, c cancels it"),
    ("", "l", "is running: only a held job can be released"),
    ("", "r", "is running: only ended jobs can be retried"),
    ("", "+", "is running: only waiting jobs have a priority"),
    ("", "u", "is not paused"),
    ("jj", "l", "is queued: only a held job can be released"),
    ("", "p", "is queued: only a running job can be paused"),
    ("", "u", "is queued: only a paused job can be resumed"),
    ("G", "c", "is failed, so there is nothing to cancel"),
    ("", "h", "is failed: only a queued job can be held"),
)


# --- the picture


@pytest.mark.parametrize("width", [80, 120, 200])
def test_screen_matches_the_recorded_screen_and_is_not_redrawn_if_unchanged(
    home: Home, store: Store, width: int
) -> None:
    async def story(user: User) -> None:
        await user.press("j", "tab")
        assert f"{user.text}\n" == (GOLDEN / f"top-{width}.txt").read_text()
        canvas = user.top.query_one(Canvas)
        before = canvas.rows
        await user.look()
        assert canvas.rows == before
        assert not canvas._repaint_regions

    height = {80: 24, 120: 40, 200: 50}[width]
    run_on_snapshot(home, a_busy_screen(), story, size=(width, height))


@pytest.mark.parametrize("size", [(1, 2), (20, 5), (300, 100)])
def test_top_draws_at_any_terminal_size(home: Home, store: Store, size: tuple[int, int]) -> None:
    async def story(user: User) -> None:
        for key in ("j", "k", "G", "g", "pagedown", "pageup", "tab", "?", "q", "/", "x", "enter"):
            await user.press(key)
            assert len(user.lines) == size[1]

    run_on_snapshot(home, a_busy_screen(), story, size=size)


def test_empty_queue_shows_how_to_add_jobs(home: Home) -> None:
    async def story(user: User) -> None:
        assert (
            "no queue yet. To make one: launcher run TASKFILE, or launcher add -- PROGRAM"
            in user.text
        )
        await user.after("j enter", bottom="no job is chosen")
        enqueue(store := Store(home), "train/first")
        store.close()
        await user.look()
        assert "train/first" in user.chosen

    run_on_queue(home, story)


# --- moving


def test_cursor_moves_from_job_to_job(jobs: list[int], home: Home) -> None:
    async def story(user: User) -> None:
        assert "train/a" in user.chosen
        await user.after("j", chosen="train/b")
        await user.after("down", chosen="train/c")
        await user.after("k up up", chosen="train/a")
        await user.after("tab", chosen="train/c")
        await user.after("shift+tab", chosen="train/a")
        await user.after("G", chosen="failed")
        await user.after("home", chosen="train/a")
        await user.after("end g pagedown", chosen="failed")
        await user.after("pageup", chosen="train/a")

    run_on_queue(home, story)


def test_cursor_stays_on_its_job_then_on_its_row(home: Home, store: Store) -> None:
    jobs = enqueue(store, *(f"train/{name}" for name in "abcd"))

    async def story(user: User) -> None:
        await user.after("j j", chosen="train/c")
        store.job_control.cancel([jobs[0]], 1.0)
        await user.look()
        assert "○ train/c" in user.chosen
        claimed(store, jobs[2])
        await user.look()
        assert "● train/c" in user.chosen, "it follows a job that starts"

    run_on_queue(home, story)


def test_cursor_below_the_window_is_scrolled_into_view(home: Home, store: Store) -> None:
    async def story(user: User) -> None:
        assert user.chosen == ""
        await user.after("j", chosen="train/gan2")
        assert user.chosen == user.lines[-2]
        await user.press("k")
        assert user.chosen == ""

    run_on_snapshot(home, a_busy_screen(), story, size=(80, 12))


def test_long_list_loads_more_jobs_while_scrolling(home: Home, store: Store) -> None:
    enqueue(store, *(f"train/{number:03}" for number in range(700)))

    async def story(user: User) -> None:
        shown: set[int] = set()
        for _ in range(14):
            await user.press("pagedown")
            await user.look()
            assert user.top.snapshot is not None
            shown.add(len(user.top.snapshot.waiting))
        assert min(shown) < 300
        assert max(shown) == 500
        await user.after("G", "200 more jobs wait")

    run_on_queue(home, story, size=(80, 100))


def test_filter_applies_while_typing_and_is_kept_or_cleared(jobs: list[int], home: Home) -> None:
    async def story(user: User) -> None:
        await user.press("/")
        await user.type("test/q")
        assert user.bottom.startswith("filter: test/q")
        assert "no job matches 'test/q'" in user.text
        await user.press("ctrl+u", *"train/", "tab", "down", "down", "up")
        assert "train/b" in user.chosen, "arrows move the cursor meanwhile"
        await user.press("ctrl+u", *"test/q", "ctrl+h", "enter")
        assert "test/c" in user.chosen
        assert "train/a" not in user.text
        assert user.bottom.startswith("filter: test/, Esc shows all")
        await user.press("h", "y")
        assert "‖ held" in user.chosen, "it is looked for again"
        await user.after("escape", "train/a")
        await user.press("/")
        await user.type("[x")
        assert user.bottom.startswith("filter: [x")
        await user.after("escape", "train/a")

    run_on_queue(home, story)


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
    async def story(user: User) -> None:
        await user.press("/")
        await user.type("0123456789" * 2)
        assert user.bottom == bottom

    run_on_queue(home, story, size=(width, 5))


def test_pasted_text_goes_only_to_the_filter(jobs: list[int], home: Home) -> None:
    async def story(user: User) -> None:
        user.top.post_message(Paste("cq"))
        await user.look()
        assert "help" in user.bottom
        await user.press("/")
        user.top.post_message(Paste("train/b\x1b\nq"))
        await user.look()
        assert user.bottom.startswith("filter: train/b")
        assert "train/b" in user.chosen

    run_on_queue(home, story)


def test_pasted_text_is_cut_at_the_limit(jobs: list[int], home: Home) -> None:
    async def story(user: User) -> None:
        await user.press("/", "a", "b", "left")
        user.top.post_message(Paste("x" * 2 * LONGEST))
        await user.look()
        typed = user.bottom.removeprefix("filter: ").partition(" ")[0]
        assert typed == f"a{'x' * (LONGEST - 2)}b"
        await user.after("y end backspace z enter", "no job matches")
        await user.press("/")
        assert user.bottom.startswith(f"filter: a{'x' * (LONGEST - 2)}z ")

    run_on_queue(home, story, size=(LONGEST + 60, 24))


# --- opened jobs


def test_job_has_three_pages_that_are_refreshed(jobs: list[int], home: Home) -> None:
    async def story(user: User) -> None:
        await user.press("enter")
        assert f"train/a  job {jobs[0]} of test, running" in user.lines[0]
        for text in ("[1 overview]", "attempts", "events", "lr", "0.1", "30/90 loss=0.03333"):
            assert text in user.text
        await user.after("2", "epoch 100", "follows")
        with home.attempt(jobs[0], 1).log.open("a") as log:
            log.write("one more\x1b[2J\n")
        await user.look()
        assert "one more\\x1b[2J" in user.text
        await user.after("k", "line 81 of 101; G follows again")
        await user.after("g", "epoch 1\n")
        await user.after("G", "follows")
        await user.after("tab", "loss  0.03333  metric 1 of 3")
        await user.press("]")
        assert user.lines[3].startswith("auc  0.9  metric 2 of 3")
        await user.press("[", "[")
        assert user.lines[3].startswith("rate  1/s  metric 3 of 3")
        await user.after("1", "30/90")
        report(home, jobs[0], 60)
        await user.until(lambda: "60/90" in user.text)
        await user.after("escape", chosen="train/a")

    run_on_queue(home, story)


def test_w_opens_the_reason_of_a_job(jobs: list[int], home: Home) -> None:
    async def story(user: User) -> None:
        await user.after("G w", "KeyError: 'lr'", "events, the newest first")

    run_on_queue(home, story)


def test_job_that_never_started_has_no_log_or_metrics(jobs: list[int], home: Home) -> None:
    async def story(user: User) -> None:
        await user.after("j j enter 2", "it has not run yet")
        await user.after("3", "reported no steps")

    run_on_queue(home, story)


def test_long_log_is_read_from_its_end(jobs: list[int], home: Home) -> None:
    home.attempt(jobs[0], 1).log.write_bytes(b"x" * 79 + b"\n" + b"y" * (1 << 20) + b"\nend\n")

    async def story(user: User) -> None:
        await user.after("enter 2", "end")
        assert "xxx" not in user.text
        await user.after("g", "xxx")
        await user.after("pagedown G", "end", "follows")

    run_on_queue(home, story)


def test_log_without_line_ends_is_shown(jobs: list[int], home: Home) -> None:
    home.attempt(jobs[0], 1).log.write_bytes(b"a" + b"x" * (1 << 20) + b"the end")

    async def story(user: User) -> None:
        await user.after("enter 2", "xxx", "the end")
        await user.after("g", "axxx")
        assert "the end" not in user.text

    run_on_queue(home, story)


def test_metric_without_finite_values_is_left_out(jobs: list[int], home: Home) -> None:
    with home.attempt(jobs[0], 1).progress.open("w") as file:
        for step in (1, 2):
            metrics = {"loss": 0.5, "count": 10**400}
            told = {"at": float(step), "step": step, "total": 2, "metrics": metrics}
            file.write(json.dumps(told) + "\n")

    async def story(user: User) -> None:
        await user.after("enter 3", "loss  0.5  metric 1 of 3")
        await user.after("]", "count  inf  metric 2 of 3", "no numbers yet")

    run_on_queue(home, story)


def test_page_of_a_deleted_job_is_closed(home: Home, store: Store) -> None:
    (job,) = enqueue(store, "train/a")

    async def story(user: User) -> None:
        await user.press("enter")
        store.job_control.cancel([job], 1.0)
        store.job_control.delete_jobs([job])
        deadline = time.monotonic() + 10
        # a page asks the queue for a small share of the time only
        while user.bottom != f"job {job} was cleaned":
            assert time.monotonic() < deadline, user.bottom
            await asyncio.sleep(0.05)
            await user.look()

    run_on_queue(home, story)


# --- changes


def test_change_is_applied_only_after_confirmation(
    jobs: list[int], home: Home, store: Store
) -> None:
    waiting = jobs[2]

    async def story(user: User) -> None:
        await user.after(
            "j j h", bottom=f"hold job {waiting} train/c? It starts only after it is released  y/n"
        )
        await user.after("n", bottom="nothing was changed")
        assert in_state(store, waiting, State.QUEUED)
        await user.after("h y", bottom=f"job {waiting} train/c held")
        assert in_state(store, waiting, State.HELD)
        assert "‖ train/c" in user.chosen

        await user.after("+", bottom=f"priority of job {waiting} train/c: 0 → 1?  y/n")
        await user.press("y", "+", "y", "-", "y")
        assert job_row(store, waiting).priority == 1

        await user.press("c")
        told = "? 1 job that needs it will be skipped  y/n"
        assert user.bottom == f"cancel job {waiting} train/c{told}"
        await user.press("y")
        assert in_state(store, waiting, State.CANCELLED)
        assert in_state(store, jobs[3], State.SKIPPED)

    run_on_queue(home, story)


@pytest.mark.parametrize("width", [20, 80])
def test_question_always_shows_the_answer_keys(home: Home, store: Store, width: int) -> None:
    long = "train/" + "gan2:pre&real:pre+" * 20
    (first, _) = enqueue(store, long, "test/it", needs={"test/it": [long]})

    async def story(user: User) -> None:
        await user.press("c")
        assert user.bottom.endswith("  y/n")
        assert user.bottom.startswith(f"cancel job {first}")
        if width >= 80:
            assert "? 1 job that needs it will be skipped" in user.bottom

    run_on_queue(home, story, size=(width, 24))


def test_running_job_is_cancelled_gracefully(jobs: list[int], home: Home, store: Store) -> None:
    async def story(user: User) -> None:
        await user.after("enter c", bottom=f"end running job {jobs[0]} train/a?  y/n")
        await user.after("y", bottom=f"job {jobs[0]} train/a will end")
        assert job_row(store, jobs[0]).wish == "cancel"

    run_on_queue(home, story)


def test_failed_job_can_be_retried(
    jobs: list[int], home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_changes, "ensure_scheduler", ensure_scheduler)
    home.stop_record.write_text('{"schema": 1, "now": false, "at": 0.0}')

    async def story(user: User) -> None:
        await user.after("G r", bottom=f"retry job {jobs[4]} train/d?  y/n")
        await user.after("y", bottom=f"job {jobs[4]} train/d queued again")
        await asyncio.to_thread(until, lambda: scheduler_pid(home), "a scheduler is started")

    run_on_queue(home, story)
    assert not home.stop_record.exists()


def test_refused_change_shows_the_reason(jobs: list[int], home: Home) -> None:
    async def story(user: User) -> None:
        for moves, key, told in REFUSED:
            await user.type(f"{moves}{key}")
            assert told in user.bottom
        await user.press("k")
        assert "help" in user.bottom, "the next key takes the message away"

    run_on_queue(home, story)


def test_changed_job_is_not_modified(home: Home, store: Store) -> None:
    (job,) = enqueue(store, "train/a")

    async def story(user: User) -> None:
        await user.press("m", "h")
        claimed(store, job)
        await user.after("y", bottom=f"job {job} changed in the meantime. Nothing was done")
        await user.press("x")
        assert user.bottom.startswith("1 marked, "), "it stays marked for what can be done now"

    run_on_queue(home, story)


def test_read_only_screen_changes_nothing(jobs: list[int], home: Home) -> None:
    async def story(user: User) -> None:
        assert user.bottom.startswith("read only")
        assert "cancel" not in user.bottom
        await user.press("j", "j")
        for key in "hlcr+-":
            await user.press("x", "escape", key)
            assert user.bottom == "read only: jobs cannot be changed from here"

    run_on_queue(home, story, read_only=True)


# --- help, leaving, trouble


def test_help_lists_every_key_and_closes(jobs: list[int], home: Home) -> None:
    async def story(user: User) -> None:
        await user.press("?")
        seen = user.text
        for _ in range(len(help_page(80)) // 10):
            await user.press("pagedown")
            seen += user.text
        for one in help_page(80):
            assert one.text.strip()[:30] in seen
        await user.after("q", chosen="train/a")

    run_on_queue(home, story)


@pytest.mark.parametrize(
    "keys", [("q",), ("ctrl+c",), ("enter", "ctrl+c"), ("h", "ctrl+c"), ("/", "ctrl+c")]
)
def test_top_exits_at_once(jobs: list[int], home: Home, keys: tuple[str, ...]) -> None:
    async def story(user: User) -> None:
        await user.press(*keys)

    assert run_on_queue(home, story) == 0


class Broken(QueueSnapshotReader):
    """A queue whose database cannot be read now and then."""

    works = True

    def read_snapshot(
        self, *, waiting_limit: int = 0, recent: int = 0, search_text: str = ""
    ) -> QueueSnapshot:
        if not self.works:
            raise sqlite3.OperationalError("disk I/O error")
        return super().read_snapshot(
            waiting_limit=waiting_limit, recent=10, search_text=search_text
        )


def test_read_error_is_shown_until_the_next_successful_read(jobs: list[int], home: Home) -> None:
    async def story(user: User) -> None:
        queue.works = False
        await user.look()
        assert user.bottom == "disk I/O error"
        assert "train/a" in user.text
        queue.works = True
        await user.look()
        assert "help" in user.bottom

    with closing(Broken(home)) as queue:
        run_top(queue, story)


def test_top_exits_if_the_queue_is_deleted(jobs: list[int], home: Home, tmp_path: Path) -> None:
    async def story(user: User) -> None:
        await user.press("enter", "c")
        assert "end running job" in user.bottom
        home.folder.rename(tmp_path / "away")
        await user.look()
        assert "no queue yet" in user.text
        assert user.bottom == "the queue was deleted or replaced"
        await user.after("y c", bottom="no job is chosen")
        assert "train/a" not in user.text
        (tmp_path / "away").rename(home.folder)
        await user.look()
        assert "train/a" in user.text

    run_on_queue(home, story)
    with closing(Store(home)) as store:
        assert job_row(store, jobs[0]).state is State.RUNNING


def test_names_cannot_control_the_terminal(home: Home, store: Store) -> None:
    enqueue(store, a_spec("echo", "\x1b[2J", name="command/\x1b[31mred"))

    async def story(user: User) -> None:
        for keys in ((), ("h",), ("n", "enter"), ("2",), ("q", "/", "\x1b")):
            await user.press(*[key for key in keys if key.isprintable()])
            assert "\x1b" not in user.text

    run_on_queue(home, story)


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
