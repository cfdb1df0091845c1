"""Who waits and what was used, as files tell it: across homes and users, decayed, and never believed when it cannot be."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest

from launcher.accounts import HALF_LIFE_S, Use, Wish, decayed_span, read_use, read_wish
from launcher.gpu.reservation_files import NONE, ReservationWatch
from launcher.gpu.reservations import (
    LAG_S,
    OWED_S,
    REFRESH_S,
    STALE_S,
    Reservation,
    ReservationBoard,
)
from launcher.system.processes import identity
from tests.build import GIB, Clock
from tests.launcher.users import NOBODY, as_user, root_only, said_by, shared_folder

GPU = "GPU-5ee1"
WISH = Wish(since=990.0, gpus=2, vram=8 * GIB, cpus=4, ram=GIB, cards=(GPU,), count=3)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def public() -> Iterator[Path]:
    with shared_folder() as folder:
        yield folder


def a_board(folder: Path, name: str, clock: Callable[[], float]) -> ReservationBoard:
    return ReservationBoard(folder, Path("/queues") / name, clock=clock)


def a_reservation(amount: int = 6, used: int | None = 0) -> Reservation:
    return Reservation(device=GPU, amount=amount, used=used, job=1)


def counts(board: ReservationBoard, looked_at: float | None = None) -> int:
    return sum(promise.amount for promise in board.others(looked_at))


# --- use


def test_use_halves_in_a_day_and_what_is_used_meanwhile_is_added() -> None:
    used = Use(cards=8.0, cores=4.0, memory=2.0)
    assert used.after(HALF_LIFE_S) == Use(cards=4.0, cores=2.0, memory=1.0)
    steady = Use()
    for _ in range(24 * 60):
        steady = steady.grown(Use(cards=1.0), 60.0)
    at_once = Use().grown(Use(cards=1.0), HALF_LIFE_S)
    assert steady.cards == pytest.approx(at_once.cards)
    assert at_once.cards == pytest.approx(HALF_LIFE_S / log(2) / 2)
    assert decayed_span(10.0, 0.0) == pytest.approx(10.0, rel=1e-3)
    assert decayed_span(1e12, 0.0) == pytest.approx(HALF_LIFE_S / log(2)), "it is bounded"
    assert decayed_span(-5.0, 10.0) == 0.0, "a clock that was set back uses nothing"


# --- what a file tells


def test_who_waits_is_known_to_others_with_what_his_user_has_used(
    public: Path, clock: Clock
) -> None:
    ours = a_board(public, "a", clock)
    other = a_board(public, "b", clock)
    other.wish = WISH
    other.use_is(Use(cards=100.0))
    assert other.publish([])
    ours.use_is(Use(cards=30.0))
    clock.now += 2
    ours.others()
    (colleague,) = ours.colleagues()
    assert colleague.user.startswith("another home of ")
    assert colleague.wish == WISH
    assert colleague.waited_s == pytest.approx(clock.now - WISH.since)
    # of one user the use of all homes is one, and of two homes of his only what they used matters
    assert ours.whole_use().cards == pytest.approx(130.0, rel=1e-3)
    assert colleague.use.cards == pytest.approx(200.0, rel=1e-3)
    clock.now += STALE_S
    ours.others()
    assert ours.colleagues() == ()
    assert ours.whole_use().cards == pytest.approx(130.0, rel=1e-2), "what he used he has used"


@root_only
def test_another_user_is_named_and_the_use_of_all_his_homes_counts(
    public: Path, clock: Clock
) -> None:
    def publish() -> str:
        first, second = a_board(public, "b", clock), a_board(public, "c", clock)
        second.use_is(Use(cards=3600.0))
        second.publish([])  # it waits for nothing, and its scheduler may have left
        first.wish = WISH
        first.use_is(Use(cards=60.0))
        return str(first.publish([]))

    assert said_by(as_user(NOBODY, publish)) == "True"
    ours = a_board(public, "a", clock)
    ours.use_is(Use(cards=5.0))
    ours.others()
    (colleague,) = ours.colleagues()
    assert "another home" not in colleague.user
    assert colleague.use.cards == pytest.approx(3660.0)
    assert ours.whole_use().cards == 5.0


def test_a_file_is_renewed_while_somebody_waits_and_removed_when_nothing_is_to_be_told(
    tmp_path: Path, clock: Clock
) -> None:
    board = a_board(tmp_path, "a", clock)
    board.wish = WISH
    assert board.due()
    assert board.publish([])
    board.others()
    assert not board.due()
    clock.now += REFRESH_S
    assert board.due()
    board.wish = None
    assert board.due()
    assert board.publish([])
    assert list(tmp_path.iterdir()) == []


def test_what_was_used_is_told_soon_where_somebody_else_is_there(
    tmp_path: Path, clock: Clock
) -> None:
    ours, other = a_board(tmp_path, "a", clock), a_board(tmp_path, "b", clock)
    other.publish([a_reservation()])
    ours.publish([a_reservation()])
    ours.others()
    ours.use_is(Use(cards=50.0))
    assert not ours.due()
    clock.now += OWED_S
    assert ours.due()


def test_what_a_scheduler_used_stays_told_when_it_leaves(tmp_path: Path, clock: Clock) -> None:
    ours, other = a_board(tmp_path, "a", clock), a_board(tmp_path, "b", clock)
    other.use_is(Use(cards=7200.0))
    assert other.publish([])
    clock.now += HALF_LIFE_S
    a_board(tmp_path, "c", clock).remove_abandoned()
    ours.others()
    assert ours.whole_use().cards == pytest.approx(3600.0)
    clock.now += 10 * HALF_LIFE_S
    a_board(tmp_path, "c", clock).remove_abandoned()
    assert list(tmp_path.iterdir()) == []


ODD: list[dict[str, Any]] = [
    {"use": {"cards": float("nan")}},
    {"use": {"cards": -1}},
    {"use": {"cores": 1e300}},
    {"use": [1]},
    {"use": {"cards": 10**400}},
    {"wish": {"since": float("nan"), "gpus": 1, "cpus": 1, "ram": 0, "lacks": "gpu"}},
    {"wish": {"since": 1, "gpus": -1, "cpus": 1, "ram": 0, "lacks": "gpu"}},
    {"wish": {"since": 1, "gpus": 1, "cpus": True, "ram": 0, "lacks": "gpu"}},
    {"wish": {"since": 1, "gpus": 1 << 40, "cpus": 1, "ram": 0, "lacks": "gpu"}},
    {"wish": {"since": 1, "gpus": 1, "cpus": 1, "ram": 0, "lacks": ["gpu"]}},
    {"wish": {"since": 1, "gpus": 1, "cpus": 1, "ram": 0, "lacks": "all"}},
    {"wish": "everything"},
    {"measured": {GPU: [[float("nan"), 0]]}},
    {"measured": {GPU: [[2, 0], [1, 0]]}},
    {"measured": {GPU: 7}},
]


@pytest.mark.parametrize("changes", ODD, ids=str)
def test_what_cannot_be_does_not_count_and_the_rest_of_the_file_does(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    ours, other = a_board(tmp_path, "a", clock), a_board(tmp_path, "b", clock)
    assert other.publish([a_reservation()])
    (file,) = tmp_path.iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    for _ in range(3):
        assert counts(ours, clock.now) == 6
        assert ours.colleagues() == ()
        assert ours.whole_use() == Use()
    (name,) = changes
    assert caplog.text.count(f"its {name} cannot be, and does not count") == 1


def test_a_wish_of_the_future_waits_for_no_time_and_what_is_told_is_read_again(
    tmp_path: Path, clock: Clock
) -> None:
    ours, other = a_board(tmp_path, "a", clock), a_board(tmp_path, "b", clock)
    other.wish = Wish(since=clock.now + 1e6, gpus=1)
    other.publish([])
    ours.others()
    assert [colleague.waited_s for colleague in ours.colleagues()] == [0.0]
    assert read_wish(WISH.record()) == WISH
    assert read_use(Use(cards=1.5, cores=2.0, memory=3.0)._asdict()) == Use(
        cards=1.5, cores=2.0, memory=3.0
    )


# --- what is in use counts once as soon as that is known


def test_a_promise_shrinks_at_once_for_who_has_looked_since_its_use_was_measured(
    tmp_path: Path, clock: Clock
) -> None:
    ours, other = a_board(tmp_path, "a", clock), a_board(tmp_path, "b", clock)
    other.publish([a_reservation(used=0)])
    clock.now += 0.5
    measured = clock.now
    other.publish([a_reservation(used=4)])
    assert counts(ours) == 6, "nobody knows when we looked"
    assert counts(ours, measured - 0.1) == 6, "our look may not show it yet"
    assert counts(ours, measured) == 2
    clock.now += LAG_S
    other.publish([a_reservation(used=4)])
    assert counts(ours) == 2


def test_of_what_is_given_back_nothing_is_free_for_others_at_any_look(
    tmp_path: Path, clock: Clock
) -> None:
    ours, other = a_board(tmp_path, "a", clock), a_board(tmp_path, "b", clock)
    uses = {}
    for used in (0, 5, 1, 6, 2, 3):
        clock.now += 0.5
        uses[clock.now] = used
        other.publish([a_reservation(used=used)])
        for looked_at in uses:
            # whoever looked between two measurements saw at least the least of those around his look
            least = min(
                amount
                for at, amount in uses.items()
                if at >= max((each for each in uses if each <= looked_at), default=0.0)
            )
            assert counts(ours, looked_at) >= 6 - least


def test_memory_whose_use_is_unknown_counts_whole_for_everybody(
    tmp_path: Path, clock: Clock
) -> None:
    ours, other = a_board(tmp_path, "a", clock), a_board(tmp_path, "b", clock)
    for _ in range(3):
        unknown = Reservation(device=GPU, amount=3, used=None, job=2)
        other.publish([a_reservation(used=4), unknown])
        clock.now += 1
    assert counts(ours, clock.now) == 2 + 3


def test_a_notable_change_of_what_is_in_use_is_told_at_once(tmp_path: Path, clock: Clock) -> None:
    board = a_board(tmp_path, "a", clock)
    board.publish([a_reservation(8 * GIB, used=0)])
    assert not board.measured_change([a_reservation(8 * GIB, used=1 << 20)])
    assert board.measured_change([a_reservation(8 * GIB, used=4 * GIB)])


# --- a scheduler that was killed


def test_what_a_job_has_stays_its_own_while_it_lives_though_its_scheduler_was_killed(
    tmp_path: Path, clock: Clock
) -> None:
    ours, other = a_board(tmp_path, "a", clock), a_board(tmp_path, "b", clock)
    me = identity(os.getpid())
    assert me is not None
    other.heads = (replace(me, start_ticks=1), me)
    other.publish([a_reservation()])
    clock.now += 100 * STALE_S
    assert counts(ours) == 6
    other.heads = (replace(me, start_ticks=1),)  # another process has its number now
    other.publish([a_reservation()])
    clock.now += STALE_S + 1
    assert counts(ours) == 0


@root_only
def test_only_a_process_of_the_files_user_keeps_it(public: Path, clock: Clock) -> None:
    me = identity(os.getpid())
    assert me is not None

    def publish() -> str:
        board = a_board(public, "b", clock)
        board.heads = (me,)
        return str(board.publish([a_reservation()]))

    assert said_by(as_user(NOBODY, publish)) == "True"
    ours = a_board(public, "a", clock)
    assert counts(ours) == 6
    clock.now += STALE_S + 1
    assert counts(ours) == 0


# --- a change wakes


def test_another_schedulers_change_wakes_and_our_own_and_strange_files_do_not(
    tmp_path: Path, clock: Clock
) -> None:
    ours, other = a_board(tmp_path, "a", clock), a_board(tmp_path, "b", clock)
    watch = ReservationWatch(tmp_path)
    assert watch.descriptor != NONE
    ours.publish([a_reservation()])
    (tmp_path / "another-program").write_text("")
    (tmp_path / "another-program").unlink()
    assert not watch.changed(ours.names)
    other.publish([a_reservation()])
    assert watch.changed(ours.names)
    assert not watch.changed(ours.names)
    other.clear()
    assert watch.changed(ours.names)
    watch.close()
    assert not watch.changed(ours.names)


def test_where_the_kernel_cannot_tell_nothing_is_watched(tmp_path: Path) -> None:
    assert ReservationWatch(tmp_path / "absent").descriptor == NONE
    assert not ReservationWatch(None).changed(())
    folder = tmp_path / "claims"
    folder.mkdir()
    watch = ReservationWatch(folder)
    folder.rmdir()
    assert watch.changed(())
    assert watch.descriptor == NONE


def test_more_changes_than_the_kernel_keeps_wake_once(tmp_path: Path) -> None:
    watch = ReservationWatch(tmp_path)
    name = tmp_path / "launcher-claims.0.01234567.json"
    for _ in range(2000):
        name.touch()
        os.rename(name, tmp_path / "launcher-claims.0.12345678.json")  # noqa: PTH104  # as written
    assert watch.changed(())
    assert not watch.changed(())
    watch.close()
