"""The free cores of a machine, as a running job counts them."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from launcher.queue.gpu.core_shares import CoreShare, find_core_share
from launcher.queue.gpu.foreign_reservations import STALE_S
from launcher.queue.gpu.own_reservations import Reservation
from launcher.queue.gpu.reservations import ReservationBoard
from launcher.queue.gpu.resources import MEMORY, core_resource_name
from launcher.system.processes import Identity, core_mask, identity
from tests.build import Clock

OWN = "/queues/own"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def publish(
    folder: Path, clock: Clock, home: str, cores: Sequence[int], mask: int | None = None
) -> None:
    """Publish the reservations of a queue, one for each job."""
    device = core_resource_name(core_mask() if mask is None else mask)
    board = ReservationBoard(folder, Path(home), clock=clock)
    own = identity(os.getpid())
    assert isinstance(own, Identity)
    board.supervisors = (own,) * len(cores)
    reservations = [
        Reservation(device=device, amount=count, used=None, job=job)
        for job, count in enumerate(cores)
    ]
    assert board.publish([*reservations, Reservation(MEMORY, 1 << 30, None, 99)])


def share(folder: Path, clock: Clock, cpus: str = "", home: str = OWN) -> CoreShare:
    environ = {"LAUNCHER_CLAIMS": str(folder), "LAUNCHER_HOME": home, "LAUNCHER_CPUS": cpus}
    return find_core_share(environ, cores=lambda: 16, clock=clock)


def test_training_that_is_alone_has_all_free_cores(tmp_path: Path, clock: Clock) -> None:
    publish(tmp_path, clock, OWN, [1])
    assert share(tmp_path, clock, "1") == CoreShare(reserved=1, free=15, jobs=1)
    assert share(tmp_path, clock, "1").usable == 16


def test_fourteen_trainings_share_the_free_cores(tmp_path: Path, clock: Clock) -> None:
    publish(tmp_path, clock, OWN, [1] * 14)
    assert share(tmp_path, clock, "1") == CoreShare(reserved=1, free=2, jobs=14)
    assert share(tmp_path, clock, "1").usable == 1


def test_reserved_cores_of_other_queues_are_not_free(tmp_path: Path, clock: Clock) -> None:
    publish(tmp_path, clock, OWN, [2])
    publish(tmp_path, clock, "/queues/other", [4, 4])
    assert share(tmp_path, clock, "2") == CoreShare(reserved=2, free=6, jobs=3)
    assert share(tmp_path, clock, "2").usable == 4


def test_reservations_beyond_the_cores_leave_none_free(tmp_path: Path, clock: Clock) -> None:
    publish(tmp_path, clock, OWN, [12, 12])
    assert share(tmp_path, clock, "12").usable == 12


def test_cores_that_this_process_may_not_use_do_not_count(tmp_path: Path, clock: Clock) -> None:
    publish(tmp_path, clock, OWN, [1])
    publish(tmp_path, clock, "/queues/other", [4], mask=1 << 90)
    assert share(tmp_path, clock, "1").free == 15


def test_job_whose_queue_publishes_nothing_here_keeps_to_its_cores(
    tmp_path: Path, clock: Clock
) -> None:
    publish(tmp_path, clock, "/queues/other", [1])
    assert share(tmp_path, clock, "4") == CoreShare(reserved=4, free=0, jobs=1)
    assert share(tmp_path / "absent", clock, "4").usable == 4


def test_program_outside_of_a_queue_has_what_no_queue_reserved(
    tmp_path: Path, clock: Clock
) -> None:
    assert share(tmp_path / "absent", clock) == CoreShare(reserved=0, free=16, jobs=1)
    publish(tmp_path, clock, "/queues/other", [4])
    assert share(tmp_path, clock) == CoreShare(reserved=0, free=12, jobs=1)


def test_silent_queue_without_a_living_job_does_not_count(tmp_path: Path, clock: Clock) -> None:
    publish(tmp_path, clock, "/queues/other", [])
    board = ReservationBoard(tmp_path, Path("/queues/gone"), clock=clock)
    assert board.publish([Reservation(core_resource_name(core_mask()), 8, None, 1)])
    assert share(tmp_path, clock).free == 8
    clock.now += STALE_S + 1
    assert share(tmp_path, clock).free == 16
