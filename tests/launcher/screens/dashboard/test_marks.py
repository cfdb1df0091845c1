"""Several jobs at once in `launcher top`: marked, asked about once, changed in one go."""

import pytest

from launcher.frontends.screens.dashboard.list_order import ORDERS, sort_snapshot
from launcher.frontends.screens.queue_view import snapshot_lines
from launcher.frontends.screens.snapshots import QueueSnapshot, QueueSnapshotReader
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Resources
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from tests.build import a_spec, claimed, enqueue, in_state, job_row
from tests.screens import a_busy_screen, a_line
from tests.top import User, run_on_queue


@pytest.fixture
def waiting(store: Store) -> list[int]:
    """Four that wait."""
    return enqueue(store, *(f"train/{name}" for name in "abcd"))


def marked(user: User) -> list[str]:
    return [text.split()[1] for text in user.lines if text[1:2] == "◆"]


def test_jobs_are_marked_and_unmarked_and_a_key_with_alt_does_neither(
    waiting: list[int], home: Home
) -> None:
    async def story(user: User) -> None:
        await user.press("m")
        await user.press("alt+m", "alt+U")
        assert marked(user) == ["train/a"]
        await user.press("m")
        assert marked(user) == ["train/a", "train/b"]
        assert "train/c" in user.chosen
        assert user.bottom.startswith("2 marked, U unmarks")
        await user.press("k", "m")
        assert marked(user) == ["train/a"]
        await user.press("M")
        assert marked(user) == ["train/a", "train/b", "train/c", "train/d"]
        await user.press("M")
        assert marked(user) == []
        await user.press("m", "U")
        assert marked(user) == []
        assert "help" in user.bottom

    run_on_queue(home, story)


def test_marks_stay_while_the_list_changes(waiting: list[int], home: Home, store: Store) -> None:
    async def story(user: User) -> None:
        await user.press("j", "m")
        store.job_control.cancel([waiting[0]], 1.0)
        await user.look()
        assert marked(user) == ["train/b"]
        await user.press("/", *"train/c", "enter")
        assert marked(user) == []
        assert user.bottom.startswith("1 marked, U unmarks  filter: train/c")
        await user.after("m + y", bottom="2 jobs given a higher priority")

    run_on_queue(home, story)
    assert [job_row(store, job).priority for job in waiting] == [0, 1, 1, 0]


def test_cancelling_several_jobs_lists_dependent_jobs(home: Home, store: Store) -> None:
    jobs = enqueue(
        store,
        *("train/a", "train/b", "test/b", "test/more"),
        needs={"test/b": ["train/b"], "test/more": ["test/b"]},
    )
    home.attempt(jobs[0], 1).folder.mkdir(parents=True)
    claimed(store, jobs[0])

    async def story(user: User) -> None:
        await user.press("m", "m", "m", "c")
        text = "cancel 3 jobs? 1 of them runs. 1 job that needs them will be skipped."
        assert user.bottom == f"{text}  y/n"
        await user.after("y", bottom="3 jobs cancelled")

    run_on_queue(home, story, size=(120, 24))
    first = job_row(store, jobs[0])  # a scheduler is started, and may have ended it already
    assert first.wish == "cancel" or first.state is State.CANCELLED
    states = [job_row(store, job).state for job in jobs[1:]]
    assert states == [State.CANCELLED, State.CANCELLED, State.SKIPPED]


def test_jobs_that_changed_during_the_question_are_named(
    waiting: list[int], home: Home, store: Store
) -> None:
    async def story(user: User) -> None:
        await user.press("m", "m", "h")
        claimed(store, waiting[1])
        await user.after("y", bottom="1 job held; changed meanwhile: train/b")

    run_on_queue(home, story)
    assert in_state(store, waiting[0], State.HELD)
    assert in_state(store, waiting[1], State.RUNNING)


def test_jobs_that_cannot_be_changed_are_named_before(
    waiting: list[int], home: Home, store: Store
) -> None:
    store.job_control.hold(waiting[:1], 1.0)

    async def story(user: User) -> None:
        await user.press("M", "h")
        text = f"hold 3 jobs? 1 stays unchanged: job {waiting[0]} is held"
        assert user.bottom.startswith(text)
        await user.press("y", "M", "r")
        assert user.bottom.startswith(f"none of 4 marked jobs: job {waiting[0]} is held")

    run_on_queue(home, story, size=(120, 24))


def test_failed_jobs_are_retried_with_their_skipped_dependents(home: Home, store: Store) -> None:
    jobs = enqueue(
        store,
        *("train/a", "test/a", "test/b"),
        needs={"test/a": ["train/a"], "test/b": ["train/a"]},
    )
    store.job_control.cancel(jobs[:1], 1.0)
    home.stop_record.write_text("{}")

    async def story(user: User) -> None:
        await user.press("/", *"*", "enter", "m", "m", "r")
        assert user.bottom == "retry 2 jobs?  y/n"
        await user.after("y", bottom="2 jobs queued again, and 1 more with them")

    run_on_queue(home, story)


def test_tags_are_added_to_all_marked_jobs(waiting: list[int], home: Home, store: Store) -> None:
    store.job_control.change_tags(waiting[:1], ["old"], [])

    async def story(user: User) -> None:
        await user.press("m", "m", "t")
        assert user.bottom.startswith("tags of jobs (2 marked jobs): ")
        await user.type("paper -old")
        await user.after("enter", bottom="2 jobs with changed tags")
        await user.press("m", "t", *"?", "enter")
        assert "'?' is not a tag" in user.bottom

    run_on_queue(home, story)
    assert store.job_control.tags_of(waiting) == {job: ["paper"] for job in waiting[:2]}


def test_note_of_a_job_can_be_typed_and_its_first_line_be_edited(
    waiting: list[int], home: Home, store: Store
) -> None:
    async def story(user: User) -> None:
        await user.press("n")
        assert user.bottom.startswith(f"note on job {waiting[0]} train/a: ")
        await user.type("the run of table 3")
        await user.press("escape")
        assert job_row(store, waiting[0]).owner_note == ""
        await user.press("n", *"table 3", "enter")
        assert user.bottom == f"job {waiting[0]} train/a: note: table 3"
        await user.press("n", "enter")
        assert "unchanged" in user.bottom
        assert job_row(store, waiting[0]).owner_note == "table 3"
        store.job_control.set_note(waiting[:1], "table 3\nwith both seeds")
        await user.look()
        await user.press("n")
        assert user.bottom.startswith(f"note on job {waiting[0]} train/a: table 3")
        await user.after("backspace 4 enter", bottom=f"job {waiting[0]} train/a: note: table 4")
        assert job_row(store, waiting[0]).owner_note == "table 4\nwith both seeds"
        await user.after("n ctrl+u enter", bottom=f"job {waiting[0]} train/a: no note")

    run_on_queue(home, story)
    assert job_row(store, waiting[0]).owner_note == ""


def test_read_only_screen_accepts_no_tags(waiting: list[int], home: Home) -> None:
    async def story(user: User) -> None:
        for key in ("t", "n", "e"):
            await user.press("m", key)
            assert user.bottom == "read only: jobs cannot be changed from here"

    run_on_queue(home, story, read_only=True)


# --- Lists in another order than the queue's


def running(screen: QueueSnapshot) -> list[int]:
    return [work.id for work in screen.running]


def test_running_jobs_are_sorted_with_unknown_values_last() -> None:
    screen = a_busy_screen()
    assert running(sort_snapshot(screen, "memory")) == [42, 41, 43]
    assert running(sort_snapshot(screen, "memory", reverse=True)) == [41, 42, 43]
    assert running(sort_snapshot(screen, "time")) == [41, 42, 43]
    assert running(sort_snapshot(screen, "time", reverse=True)) == [43, 42, 41]
    assert running(sort_snapshot(screen, "name"))[0] == 43


def test_waiting_jobs_are_sorted_by_waiting_time() -> None:
    jobs = tuple(
        a_line(n, f"train/{n}", State.QUEUED, since=at) for n, at in ((1, 30.0), (2, 10.0))
    )
    screen = a_busy_screen()._replace(waiting=jobs)
    assert [job.id for job in sort_snapshot(screen, "wait").waiting] == [2, 1]


def test_waiting_jobs_are_sorted_by_requested_memory(home: Home, store: Store) -> None:
    asked = [(1, "cpu"), (4, "auto"), (None, "cuda"), (2, "auto"), (8, "auto")]
    specs = [
        a_spec(name=f"train/{n}", resources=Resources(vram=gib and gib << 30, device=device))
        for n, (gib, device) in enumerate(asked)
    ]
    enqueue(store, *specs)
    screen = sort_snapshot(QueueSnapshotReader(home, store).read_snapshot(), "memory")
    assert [job.id for job in screen.waiting] == [5, 2, 4, 1, 3], "what asks for none is last"
    assert screen.orders["waiting"] == "memory"


def test_list_without_a_sort_order_is_unchanged() -> None:
    screen = sort_snapshot(a_busy_screen(), "wait")
    text = "\n".join(line.text for line in snapshot_lines(screen, 140))
    assert "WAITING by wait" in text
    assert "RUNNING by" not in text
    assert screen.running == a_busy_screen().running


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("reverse", [False, True])
def test_no_sort_order_loses_a_job(order: str, reverse: bool) -> None:
    screen = a_busy_screen()._replace(found=a_busy_screen().waiting)
    other = sort_snapshot(screen, order, reverse=reverse)
    assert sorted(running(other)) == sorted(running(screen))
    for name in ("waiting", "recent", "found"):
        assert {*map(repr, getattr(other, name))} == {*map(repr, getattr(screen, name))}


def test_s_changes_the_sort_order_in_the_header(home: Home, store: Store) -> None:
    enqueue(store, *(a_spec(name=f"train/{name}", priority=n) for n, name in enumerate("bca")))

    async def story(user: User) -> None:
        assert "train/a" in user.chosen, "the highest priority is first in the queue"
        await user.after("s", "WAITING by name", chosen="train/a")
        await user.after("j", chosen="train/b")
        await user.after("S", "WAITING by name, reversed", chosen="train/c")
        await user.press(*"s" * (len(ORDERS) - 1))
        assert "WAITING  " in user.text

    run_on_queue(home, story)


def test_sorting_loads_more_waiting_jobs(home: Home, store: Store) -> None:
    enqueue(store, *(f"train/{900 - number}" for number in range(600)))

    async def story(user: User) -> None:
        assert "train/900" in user.chosen
        await user.press("s")
        await user.look()
        assert "train/401" in user.chosen, "the last of the first 500"
        await user.after("G", "100 more jobs wait and are not sorted in")

    run_on_queue(home, story)
