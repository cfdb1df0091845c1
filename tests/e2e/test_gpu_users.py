"""Peer users on the same GPUs: memory that they use or reserve is never reserved again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.queue.gpu.gpus_file import read_known_attempts
from tests.build import until
from tests.e2e.machine import Machine, Program, a_machine, name_of, queue_of, two_users
from tests.nvml.standin import GIB, Devices


@pytest.fixture
def machine(tmp_path: Path, gpus: Devices) -> Iterator[Machine]:
    """A machine without cards, and a scheduler that has not yet looked for any."""
    with a_machine(tmp_path, gpus) as machine:
        machine.serve()
        yield machine


@pytest.fixture
def users(tmp_path: Path, gpus: Devices) -> Iterator[tuple[Machine, Machine]]:
    """Two users with a queue each; where nobody can become another user, two queues of one."""
    with two_users(tmp_path, gpus) as both:
        yield both


def reserved_bytes(*users: Machine) -> int:
    """Return how many bytes of the GPUs all their running jobs were promised."""
    return sum(
        job["promised"]
        for person in users
        for gpu in person.gpu_status().values()
        for job in gpu["jobs"]
    )


def test_memory_of_peer_users_is_not_reserved_and_reason_has_numbers(
    machine: Machine, gpus: Devices
) -> None:
    card = gpus.add(24 * GIB, used=0)
    first = machine.hold(3.9, gpus=1, vram="10GiB")
    assert first.cards == [card]
    gpus.hold(card, 1, round(12.2 * GIB))
    machine.wait_for_usage(card, round(3.9 * GIB) + round(12.2 * GIB))

    waiting = machine.hold(1, gpus=1, vram="11.2GiB")

    said = "waiting for 11.2 GiB of GPU memory: cuda:0 has 7.9 GiB free, of which 6.1 GiB is reserved for job 1"
    assert machine.wait_for_reason(waiting.job, "11.2") == said
    assert said in machine.call("status").stdout
    assert said in machine.show_text(waiting.job)
    assert not waiting.started
    gpus.leave(card, 1)
    assert waiting.cards == [card]


def test_shared_gpu_is_used_only_after_peer_users_were_idle(
    machine: Machine, gpus: Devices
) -> None:
    taken, card = gpus.add(24 * GIB, used=0), gpus.add(24 * GIB, used=0, util=60)
    gpus.hold(card, 1, 2 * GIB)
    machine.configure('[sharing]\nidle = "1s"\ndevices = [1]\n')

    waiting = machine.hold(1, gpus=1, vram="1GiB")

    machine.wait_for_reason(
        waiting.job,
        "cuda:0 is not in [sharing] devices of config.toml",
        "cuda:1 has been unused by others for 0 s of the required 1 s",
    )
    assert not waiting.started
    gpus.leave(card, 1)
    gpus.set(card, util=0)
    assert waiting.cards == [card]
    assert machine.gpu_status()[taken]["jobs"] == []


def test_two_users_never_reserve_more_than_a_gpu_has(
    users: tuple[Machine, Machine], gpus: Devices
) -> None:
    one, other = users
    card = gpus.add(25 * GIB, used=0)  # used and promised memory is counted twice for some seconds
    first = one.hold(1, gpus=1, vram="10GiB")
    assert first.cards == [card]
    second = other.hold(1, gpus=1, vram="10GiB")
    assert second.cards == [card]

    mine, theirs = (person.hold(1, gpus=1, vram="7GiB") for person in users)

    one.wait_for_reason(mine.job, "waiting for 7 GiB", f"by {queue_of(other)}")
    other.wait_for_reason(theirs.job, "waiting for 7 GiB", f"by {queue_of(one)}")
    assert not mine.started
    assert not theirs.started
    assert reserved_bytes(*users) == 20 * GIB
    (foreign,) = one.gpu_status()[card]["foreign"]
    assert name_of(other) in json.dumps(foreign)
    first.let_go()
    until(lambda: mine.started and theirs.started, "both have room")
    assert reserved_bytes(*users) == 24 * GIB


def test_simultaneous_jobs_of_two_users_do_not_overcommit_a_gpu(
    users: tuple[Machine, Machine], gpus: Devices
) -> None:
    gpus.add(24 * GIB, used=0)
    queued = [person.hold(1, gpus=1, vram="9GiB") for _ in range(2) for person in users]

    most = (
        0  # as the programs report: the reservations of the two users are read one after the other
    )
    left = list(queued)
    while left:
        until(lambda: sum(one.started for one in left) >= min(2, len(left)), "two have a place")
        running = [one for one in left if one.started]
        most = max(most, len(running))
        left.remove(running[0])
        running[0].let_go()
    assert most == 2


# --- Jobs that share a GPU: measurements of them


@pytest.fixture
def card_machine(gpus: Devices, tmp_path: Path) -> Iterator[Machine]:
    """A machine with one card."""
    gpus.add(used=0)
    with a_machine(tmp_path, gpus) as machine:
        yield machine


# as HOLDING, and keeps its cards busy for $4 percent of the time
BUSY = """
for card in $(echo "$CUDA_VISIBLE_DEVICES" | tr , ' '); do echo "$card $1 $4"; done \
> "$STANDIN_TAKEN/.$$" && mv "$STANDIN_TAKEN/.$$" "$STANDIN_TAKEN/$$"
echo "$CUDA_VISIBLE_DEVICES" >"$2.tmp" && mv "$2.tmp" "$2"
read line <"$3" || true
"""


@pytest.fixture
def counted(card_machine: Machine) -> Machine:
    """The same with a scheduler whose looks at the card are counted."""
    calls = card_machine.project.folder / "calls"
    card_machine.project.environment["STANDIN_CALLS"] = str(calls)
    card_machine.serve()
    return card_machine


def keep_busy(machine: Machine, percent: int, **options: object) -> Program:
    """Queue a program that keeps its card busy for a part of the time."""
    options = {"vram": "1GiB"} | options
    return machine.hold(1, gpus=1, script=BUSY, words=(str(percent),), **options)  # type: ignore[arg-type]


def until_measured(machine: Machine, program: Program) -> None:
    """Wait until the scheduler has seen how busy a program keeps its card."""

    def looks() -> int:
        calls = machine.project.folder / "calls"
        return calls.read_text().count("nvmlDeviceGetComputeMode")

    until(lambda: program.started, "it runs")
    enough = looks() + 6
    until(lambda: looks() >= enough, "the scheduler has seen how busy it keeps the card")


def test_measured_load_of_a_running_job_survives_the_scheduler(
    counted: Machine,
) -> None:
    first = keep_busy(counted, 97)
    until_measured(counted, first)
    other = counted.hold(1, gpus=1, vram="1GiB")
    counted.wait_for_reason(other.job, f"cuda:0 is 97 % busy with job {first.job}")
    until(lambda: recorded_load(counted, first.job) > 0.9, "it is on record")

    counted.kill_scheduler()
    counted.serve()

    late = counted.hold(1, gpus=1, vram="1GiB")
    counted.wait_for_reason(late.job, f"cuda:0 is 97 % busy with job {first.job}")
    assert not other.started
    assert not late.started
    first.let_go()
    assert other.cards == late.cards


def recorded_load(machine: Machine, job: int) -> float:
    """Return the load of a job that the scheduler recorded, 0 without a record."""
    records = read_known_attempts(machine.project.home)
    loads = (record.get("load") for record in records if isinstance(record, dict))
    (load, *_) = [*loads, 0.0]
    return float(load) if isinstance(load, int | float) else 0.0


def test_fixed_number_of_jobs_shares_a_gpu_at_any_load(counted: Machine) -> None:
    counted.configure("[sharing]\nadaptive = false\nmax_per_gpu = 2\n")
    first = keep_busy(counted, 97)
    until_measured(counted, first)

    second, third = keep_busy(counted, 97), keep_busy(counted, 97)

    assert second.cards
    counted.wait_for_reason(third.job, "cuda:0 runs jobs 1, 2, its limit is 2 jobs")
    assert not third.started


LASTING = {"launcher.queue.scheduler.gpus.memory_shortage.LASTING_S": 2.0}
STEADY_LOOKS = (
    15  # one each 0.2 s, for longer than a shortage of memory lasts before a job is stopped
)


def test_jobs_are_not_stopped_for_estimates_of_another_queue(tmp_path: Path, gpus: Devices) -> None:
    card = gpus.add(24 * GIB, used=0)
    with two_users(tmp_path, gpus, intervals=LASTING) as users:
        check_not_stopped(users, card)


def check_not_stopped(users: tuple[Machine, Machine], card: str) -> None:
    """Check that no user stops a job because of the estimate for the job of the other user."""
    one, other = users
    # both estimates are larger than what is left, and nobody needs that
    first = one.hold(12, gpus=1, script=BUSY, words=("30",))
    assert first.cards == [card]
    second = other.hold(10.5, gpus=1, script=BUSY, words=("30",))
    assert second.cards == [card]

    def steady_looks(person: Machine) -> int:
        records = read_known_attempts(person.project.home)
        looks = (record["steady_looks"] for record in records if isinstance(record, dict))
        return sum(each for each in looks if isinstance(each, int))

    until(
        lambda: all(steady_looks(person) >= STEADY_LOOKS for person in users), "both are measured"
    )
    for person, program in ((one, first), (other, second)):
        assert person.state(program.job) == "running"
        assert len(person.show(program.job)["attempts"]) == 1


# --- A GPU without processes that is not free: its description, and that no job waits for it forever


PATIENCE_S = 1.0


@pytest.fixture
def short_wait_machine(tmp_path: Path, gpus: Devices) -> Iterator[Machine]:
    """A machine with a card of which an ended program has kept 3 GiB, and an impatient scheduler."""
    gpus.add(24 * GIB, used=3 * GIB)
    with a_machine(tmp_path, gpus) as machine:
        machine.serve(patience_s=PATIENCE_S)
        yield machine


def test_job_that_needs_a_whole_gpu_is_tried_on_one(
    short_wait_machine: Machine, gpus: Devices
) -> None:
    job = short_wait_machine.hold(1, gpus=1, exclusive=True)
    assert job.cards
    text = short_wait_machine.show_text(job.job)
    assert "tried alone on cuda:0 with 21 GiB free after 1 s without a known cause" in text
    assert "cuda:0 has 3 GiB in use by other users" in text
    job.let_go()
    short_wait_machine.until_state(job.job, "done")


def test_job_that_does_not_fit_shows_the_reason_and_starts_when_memory_is_free(
    short_wait_machine: Machine, gpus: Devices
) -> None:
    job = short_wait_machine.hold(1, gpus=1, vram="22GiB")
    reason = short_wait_machine.wait_for_reason(
        job.job, "No job of yours and no other user explains it for 1 s or longer"
    )
    assert "waiting for 22 GiB of GPU memory: cuda:0 has 21 GiB free" in reason
    assert "3 GiB of cuda:0 are in use, but the driver lists no process there" in reason
    for words in (("show", str(job.job)), ("status",), ("doctor",)):
        assert "No job of yours and no other user explains it" in " ".join(
            short_wait_machine.call(*words).stdout.split()
        )
    assert not job.started
    (card,) = short_wait_machine.gpu_status()
    gpus.set(card, used=0)
    assert job.cards == [card]
    log = (short_wait_machine.project.folder / "scheduler.out").read_text()
    assert "unexplained wait: job=1 waiting for 22 GiB" in log
    job.let_go()
