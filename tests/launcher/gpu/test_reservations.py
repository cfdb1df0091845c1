import itertools
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from launcher.queue.gpu.foreign_reservations import STALE_S
from launcher.queue.gpu.own_reservations import LAG_S, Reservation, sum_by_resource
from launcher.queue.gpu.reservation_files import new_file_name
from launcher.queue.gpu.reservations import ABANDONED_S, REFRESH_S, ReservationBoard
from launcher.queue.gpu.resources import ForeignReservation
from launcher.system.processes import login_name
from tests.build import Clock
from tests.launcher.users import NOBODY, as_user, root_only, said_by, shared_folder

GPU, OTHER_GPU = "GPU-5ee1", "GPU-0dd5"
CARD, CLAIM = 10, 6  # two claims do not fit on the card


Boards = tuple[ReservationBoard, ReservationBoard]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def boards(tmp_path: Path, clock: Clock) -> Boards:
    """Those of two homes."""
    return a_board(tmp_path, "a", clock), a_board(tmp_path, "b", clock)


@pytest.fixture
def public() -> Iterator[Path]:
    with shared_folder() as folder:
        yield folder


def a_board(
    folder: Path, name: str, clock: Callable[[], float] = time.monotonic
) -> ReservationBoard:
    return ReservationBoard(folder, Path("/queues") / name, clock=clock)


def a_reservation(
    job: int = 1, claim: int = CLAIM, used: int | None = 0, device: str = GPU
) -> Reservation:
    return Reservation(device=device, amount=claim, used=used, job=job)


def amounts_by_resource(promises: Sequence[ForeignReservation]) -> dict[str, int]:
    return dict(sum_by_resource(promises))


def test_reservations_are_visible_to_others_by_user_and_gpu(tmp_path: Path) -> None:
    ours, other = a_board(tmp_path, "a"), a_board(tmp_path, "b")
    assert other.publish(
        [a_reservation(1, 6), a_reservation(2, 3), a_reservation(2, 4, device=OTHER_GPU)]
    )
    assert amounts_by_resource(ours.foreign_reservations()) == {GPU: 9, OTHER_GPU: 4}
    assert len({one.user for one in ours.foreign_reservations()}) == 1
    assert other.foreign_reservations() == ()


def test_each_queue_of_a_user_is_named_with_what_it_reserved(tmp_path: Path) -> None:
    ours = a_board(tmp_path, "a")
    for name in "bc":
        assert a_board(tmp_path, name).publish([a_reservation()])
    user = login_name(os.geteuid())
    assert [(one.queue, one.amount) for one in ours.foreign_reservations()] == [
        (f"the queue /queues/b of user {user}", CLAIM),
        (f"the queue /queues/c of user {user}", CLAIM),
    ]


@pytest.mark.parametrize("folder", ["", "relative", "/a\nb", "/\udcff", f"/{'x' * 2000}", 5, None])
def test_a_folder_that_cannot_be_printed_is_left_out(tmp_path: Path, folder: object) -> None:
    assert a_board(tmp_path, "b").publish([a_reservation()])
    (path,) = tmp_path.iterdir()
    path.write_text(json.dumps({**json.loads(path.read_text()), "folder": folder}))
    (one,) = a_board(tmp_path, "a").foreign_reservations()
    assert one.queue == f"another queue of user {login_name(os.geteuid())}"


def test_withdrawn_or_removed_reservation_does_not_count(tmp_path: Path) -> None:
    ours, other = a_board(tmp_path, "a"), a_board(tmp_path, "b")
    other.publish([a_reservation(1, 6), a_reservation(2, 3)])
    assert other.withdraw([1])
    assert amounts_by_resource(ours.foreign_reservations()) == {GPU: 3}
    assert other.clear()
    assert ours.foreign_reservations() == ()
    assert list(tmp_path.iterdir()) == []


def test_empty_publication_leaves_no_file(tmp_path: Path) -> None:
    board = a_board(tmp_path, "a")
    board.publish([a_reservation()])
    assert board.withdraw([1])
    assert list(tmp_path.iterdir()) == []
    assert not board.is_due()


def test_reservation_shrinks_only_after_a_delay(boards: Boards, clock: Clock) -> None:
    ours, other = boards
    told = []
    for used in (0, 4, 4, 2, 6):
        other.publish([a_reservation(used=used)])
        told.append(amounts_by_resource(ours.foreign_reservations())[GPU])
        clock.now += LAG_S
    assert told == [6, 6, 2, 4, 4]


def test_reservation_of_unmeasured_memory_counts_completely(boards: Boards, clock: Clock) -> None:
    ours, other = boards
    for _ in range(4):
        other.publish([a_reservation(used=None)])
        clock.now += LAG_S
    assert amounts_by_resource(ours.foreign_reservations()) == {GPU: CLAIM}


def test_job_above_its_reservation_has_nothing_left_to_reserve(
    boards: Boards, clock: Clock
) -> None:
    ours, other = boards
    for _ in range(3):
        other.publish([a_reservation(1, 6, used=9), a_reservation(2, 1)])
        clock.now += LAG_S
    assert amounts_by_resource(ours.foreign_reservations()) == {GPU: 1}


def test_file_is_renewed_on_time_and_after_its_removal(tmp_path: Path, clock: Clock) -> None:
    board = a_board(tmp_path, "a", clock)
    assert not board.is_due()
    board.publish([a_reservation()])
    board.foreign_reservations()
    assert not board.is_due()
    clock.now += REFRESH_S
    assert board.is_due()
    board.publish([a_reservation()])
    assert not board.is_due()
    for file in tmp_path.iterdir():
        file.unlink()
    board.foreign_reservations()
    assert board.is_due()


def test_silent_scheduler_does_not_count(boards: Boards, clock: Clock) -> None:
    ours, other = boards
    other.publish([a_reservation()])
    clock.now += STALE_S
    assert amounts_by_resource(ours.foreign_reservations()) == {GPU: CLAIM}
    clock.now += 1
    assert ours.foreign_reservations() == ()
    other.publish([a_reservation()])
    assert amounts_by_resource(ours.foreign_reservations()) == {GPU: CLAIM}


def test_only_files_not_renewed_for_an_hour_are_removed(tmp_path: Path, clock: Clock) -> None:
    killed, living = a_board(tmp_path, "killed", clock), a_board(tmp_path, "living", clock)
    killed.publish([a_reservation()])
    left = {file.name for file in tmp_path.iterdir()}
    clock.now += ABANDONED_S
    living.publish([a_reservation()])
    a_board(tmp_path, "new", clock).remove_abandoned()
    assert len([*tmp_path.iterdir()]) == 2, "an hour is not over yet"
    clock.now += 1
    (tmp_path / "launcher-claims.json").write_text("another program's")
    a_board(tmp_path, "new", clock).remove_abandoned()
    there = {file.name for file in tmp_path.iterdir()}
    assert not left & there
    assert len(there) == 2


def test_suspended_scheduler_publishes_its_removed_file_again(tmp_path: Path, clock: Clock) -> None:
    still = a_board(tmp_path, "still", clock)
    reservation = a_reservation()
    still.publish([reservation])
    clock.now += ABANDONED_S + 1
    new = a_board(tmp_path, "new", clock)
    new.remove_abandoned()
    assert list(tmp_path.iterdir()) == []
    assert still.is_due()
    assert not still.covers([reservation])
    still.publish([reservation])
    assert amounts_by_resource(new.foreign_reservations()) == {GPU: CLAIM}


def test_file_dated_in_the_future_does_not_count(
    boards: Boards, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ours, other = boards
    clock.now += STALE_S + 1
    other.publish([a_reservation()])
    clock.now -= STALE_S + 1
    assert ours.foreign_reservations() == ours.foreign_reservations() == ()
    assert caplog.text.count("its time is in the future") == 1


def test_unusable_folder_is_reported_once_until_it_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    board = a_board(tmp_path / "claims", "a")
    assert board.error == ""
    for _ in range(3):
        assert not board.publish([a_reservation()])
        assert board.foreign_reservations() == ()
    assert "as launcher cannot read reservations in " in board.error
    assert board.is_due()
    assert caplog.text.count("cannot read reservations") == 1
    (tmp_path / "claims").mkdir()
    assert board.publish([a_reservation()])
    assert board.error == ""


def test_publication_above_the_size_limit_is_not_written(tmp_path: Path) -> None:
    board = a_board(tmp_path, "a")
    assert not board.publish([a_reservation(device=f"GPU-{number}") for number in range(300)])
    assert "cannot write reservations" in board.error
    assert list(tmp_path.iterdir()) == []


@root_only
def test_file_name_of_a_queue_cannot_be_blocked(public: Path) -> None:
    squatted = public / new_file_name(NOBODY)
    squatted.write_text("")

    def publish() -> str:
        board = a_board(public, "a")
        names = []
        for _ in range(3):
            assert board.publish([a_reservation()]), board.error
            (name,) = [file.name for file in public.iterdir() if file != squatted]
            names.append(name)
            assert board.clear()
            assert board.error == ""
        assert len(set(names)) == 3, "a name that was seen is not used again"
        assert board.publish([a_reservation()])
        return "published"

    assert said_by(as_user(NOBODY, publish)) == "published"
    assert amounts_by_resource(a_board(public, "b").foreign_reservations()) == {GPU: CLAIM}


def test_file_of_an_earlier_scheduler_of_the_same_queue_does_not_count(tmp_path: Path) -> None:
    home = Path("/queues/a")
    assert a_board(tmp_path, "a").publish([a_reservation()])  # and it is killed
    successor = ReservationBoard(tmp_path, home)
    assert successor.foreign_reservations() == ()
    assert amounts_by_resource(a_board(tmp_path, "b").foreign_reservations()) == {GPU: CLAIM}
    assert successor.publish([a_reservation(claim=1)])
    assert amounts_by_resource(a_board(tmp_path, "b").foreign_reservations()) == {GPU: 1}


def test_published_reservation_covers_an_equal_request(tmp_path: Path, clock: Clock) -> None:
    board = a_board(tmp_path, "a", clock)
    two = [a_reservation(job, 1, None, "cores:f") for job in (1, 2)]
    assert not board.covers(two)
    board.publish(two)
    assert board.covers(two)
    assert board.covers([a_reservation(3, 2, None, "cores:f")])
    assert board.states_exactly([a_reservation(3, 2, None, "cores:f")])
    assert not board.covers([a_reservation(3, 3, None, "cores:f")])
    assert not board.states_exactly(two[:1])
    clock.now += STALE_S / 2 + 1
    assert not board.covers(two), "others may not count it any more"


@root_only
def test_reservation_of_another_user_has_their_name(public: Path) -> None:
    def publish() -> str:
        os.umask(0o077)
        return str(ReservationBoard(public, Path("/queues/b")).publish([a_reservation()]))

    assert said_by(as_user(NOBODY, publish)) == "True"
    expected = (ForeignReservation("nobody", GPU, CLAIM, folder="/queues/b"),)
    assert a_board(public, "a").foreign_reservations() == expected
    assert said_by(as_user(NOBODY + 1, lambda: a_board(public, "a").foreign_reservations())) == str(
        expected
    )


# two, or three, who want more than there is: every order of their steps


class ReservingScheduler:
    """A scheduler that wants memory of one card, step by step."""

    def __init__(self, board: ReservationBoard, claim: int, held: int) -> None:
        self.board = board
        self.claim = claim
        self.held = (a_reservation(2, held),) if held else ()  # promised long ago
        self.keeps = False
        self.board.publish(self.held)

    def look(self) -> None:
        self.seen = self.board._read_peers()

    def put(self) -> None:
        self.board._reservations = (*self.held, a_reservation(claim=self.claim))
        assert self.board._write_file(self.seen, fresh=[1])

    def check(self) -> None:
        promised = amounts_by_resource(self.board.prior_reservations()).get(GPU, 0)
        wanted = self.claim + sum(one.amount for one in self.held)
        self.keeps = self.keeps or promised + wanted <= CARD
        if not self.keeps:
            self.board.withdraw([1])


STEPS = ("look", "put", "check")


def interleavings(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield every order in which processes can make so many steps: whose turn it is, each time."""
    if not any(lengths):
        yield []
    for who, left in enumerate(lengths):
        if left:
            shorter = [*lengths[:who], left - 1, *lengths[who + 1 :]]
            yield from ([who, *rest] for rest in interleavings(shorter))


def run_interleaving(
    folder: Path, order: Sequence[int], claims: Sequence[int], held: int = 0
) -> list[ReservingScheduler]:
    """Let schedulers make their steps in an order; more than three are further rounds."""
    for file in folder.iterdir():
        file.unlink()
    claimants = [
        ReservingScheduler(a_board(folder, str(n)), claim, held) for n, claim in enumerate(claims)
    ]
    steps = [itertools.cycle(STEPS) for _ in claimants]
    for who in order:
        getattr(claimants[who], next(steps[who]))()
        kept = sum(one.claim for one in claimants if one.keeps)
        assert kept + held * len(claimants) <= CARD, order
    return claimants


def step_position(order: Sequence[int], who: int, step: str) -> int:
    return [n for n, turn in enumerate(order) if turn == who][STEPS.index(step)]


@pytest.mark.parametrize("held", [0, 2])
def test_no_interleaving_lets_two_reserve_too_much(held: int, public: Path) -> None:
    for order in interleavings([3, 3]):
        keeps = [one.keeps for one in run_interleaving(public, order, [CLAIM, CLAIM], held)]
        for first, second in ((0, 1), (1, 0)):
            if step_position(order, first, "put") < step_position(order, second, "look"):
                assert keeps[first], order
                assert not keeps[second], order


@pytest.mark.parametrize("held", [0, 2])
def test_no_interleaving_of_two_rounds_overcommits_a_gpu(held: int, public: Path) -> None:
    # who kept its promise in the first round publishes it again in the second
    results = [
        run_interleaving(public, order, [CLAIM, CLAIM], held) for order in interleavings([6, 6])
    ]
    assert len(results) == 924
    nobody = sum(not any(one.keeps for one in claimants) for claimants in results)
    assert nobody < len(results) / 20  # only who runs in step twice


def test_no_interleaving_of_three_overcommits_a_gpu_for_two(public: Path) -> None:
    kept = [
        sum(one.keeps for one in run_interleaving(public, order, [4, 4, 4]))
        for order in interleavings([3, 3, 3])
    ]
    assert len(kept) == 1680
    assert max(kept) == 2


def test_reservations_that_fit_are_kept_in_every_interleaving(public: Path) -> None:
    for order in interleavings([3, 3]):
        assert all(one.keeps for one in run_interleaving(public, order, [5, 5]))


def test_known_reservation_is_always_counted(public: Path) -> None:
    # a scheduler that was restarted publishes what its jobs hold, and cannot withdraw it
    restarted, ours = a_board(public, "a"), a_board(public, "b")
    ours.publish([a_reservation(2)], fresh=[2])
    restarted.publish([a_reservation(1)])
    assert amounts_by_resource(ours.prior_reservations()) == {GPU: CLAIM}


def test_only_the_growth_of_a_reservation_is_fresh(public: Path) -> None:
    grows, ours = a_board(public, "a"), a_board(public, "b")
    grows.publish([a_reservation(1, 2)])
    ours.publish([a_reservation(2, 3)], fresh=[2])
    grows.publish([a_reservation(1, 6)], fresh=[1])
    assert amounts_by_resource(ours.prior_reservations()) == {GPU: 2}
    assert amounts_by_resource(ours.foreign_reservations()) == {GPU: 6}
    grows.publish([a_reservation(1, 6)], fresh=[1])
    assert amounts_by_resource(ours.prior_reservations()) == {GPU: 6}


def test_scheduler_with_a_long_gap_after_publishing_counts_all_others(
    public: Path, clock: Clock
) -> None:
    ours, other = a_board(public, "a", clock), a_board(public, "b", clock)
    ours.publish([a_reservation()], fresh=[1])
    other.publish([a_reservation()], fresh=[1])
    assert ours.prior_reservations() == ()
    clock.now += STALE_S / 2 + 1
    assert amounts_by_resource(ours.prior_reservations()) == {GPU: CLAIM}


def test_scheduler_that_lost_its_file_counts_all_others(public: Path) -> None:
    ours, other = a_board(public, "a"), a_board(public, "b")
    ours.publish([a_reservation()], fresh=[1])
    other.publish([a_reservation()], fresh=[1])
    (public / ours.name).unlink()
    assert amounts_by_resource(ours.prior_reservations()) == {GPU: CLAIM}


def race(folder: Path, home: str, span_s: float) -> str:
    """Want the card again and again, hold it for a moment; return how often it was held."""
    board, held = a_board(folder, home), 0
    card = folder / "card"
    until = time.monotonic() + span_s
    while time.monotonic() < until:
        if amounts_by_resource(board.foreign_reservations()).get(GPU, 0) + CLAIM > CARD:
            continue
        assert board.publish([a_reservation()], fresh=[1]), board.error
        if amounts_by_resource(board.prior_reservations()).get(GPU, 0) + CLAIM <= CARD:
            card.mkdir()  # fails where the other holds it as well
            held += 1
            if random.random() < 0.5:
                assert board.publish([a_reservation()], fresh=[1])
            card.rmdir()
        board.withdraw([1])
    return str(held)


def test_racing_processes_never_reserve_the_same_gpu(public: Path) -> None:
    users = (0, NOBODY) if os.geteuid() == 0 else (os.getuid(),) * 2
    children = [
        as_user(uid, partial(race, public, home, 1.0))
        for uid, home in zip(users, "ab", strict=True)
    ]
    held = [said_by(child) for child in children]
    assert all(text.isdigit() and int(text) > 20 for text in held), held
