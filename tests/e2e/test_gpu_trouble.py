"""GPUs that fail, drivers that hang, and memory that runs out: what happens to the jobs."""

import time
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from launcher.system.memory import usable_bytes
from tests.build import until
from tests.e2e.machine import HOLDING, SHORT, Machine, Program, a_machine
from tests.nvml.standin import GIB, TAKE, Devices
from tests.shortened import shorten

# as torch 2.8 says it
TORCH = (
    "CUDA out of memory. Tried to allocate {wanted:.2f} GiB. GPU 0 has a total capacity of"
    " {total:.2f} GiB of which {free:.2f} GiB is free. Including non-PyTorch memory, this process"
    " has {held:.2f} GiB memory in use. Of the allocated memory {held:.2f} GiB is allocated by"
    " PyTorch, and 12.00 MiB is reserved by PyTorch but unallocated. If reserved but unallocated"
    " memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid"
    " fragmentation.  See documentation for Memory Management "
    " (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"
)
# the first attempt ends as SHORT does; the next one takes $5 bytes until it is let go
STORY = f"""
if [ ! -e "$2" ]; then
{SHORT}
fi
set -- "$5" "$2-again" "$3"
{HOLDING}
"""


@pytest.fixture
def machine(tmp_path: Path, gpus: Devices) -> Iterator[Machine]:
    """A machine without cards, and a scheduler that has not yet looked for any."""
    with a_machine(tmp_path, gpus) as machine:
        machine.serve()
        yield machine


def a_story(
    machine: Machine,
    *,
    holds: float,
    wanted: float,
    total: float,
    free: float,
    then: float,
    vram: str,
    retries: int = 0,
) -> tuple[Program, Program]:
    """Queue a program that runs out of memory; return its first attempt and its second one."""
    said = TORCH.format(wanted=wanted, total=total, free=free, held=holds)
    words = said, str(round(then * GIB))
    first = machine.hold(
        holds, script=STORY, words=words, gpus=1, vram=vram, retries=retries, backoff="1s"
    )
    again = Program(
        job=first.job, said=first.said.with_name(f"{first.said.name}-again"), gate=first.gate
    )
    return first, again


def test_job_above_its_reservation_is_retried_with_more_memory(
    machine: Machine, gpus: Devices
) -> None:
    small, large = gpus.add(12 * GIB, used=0), gpus.add(24 * GIB, used=0)
    other = machine.hold(15, vram="15GiB", device="cuda:1")
    assert other.cards == [large]
    first, again = a_story(machine, holds=8, wanted=6, total=12, free=4, then=14, vram="8GiB")
    assert first.cards == [small]

    first.let_go()
    machine.wait_for_reason(first.job, "waiting for 1", "cuda:0", "cuda:1 has 9 GiB free")
    assert machine.state(first.job) == "queued"
    other.let_go()

    assert again.cards == [large]
    machine.wait_for_usage(large, 14 * GIB)
    again.let_go()
    machine.until_state(first.job, "done")
    story = machine.show_text(first.job)
    one, two = machine.show(first.job)["attempts"]
    assert "out of memory" in story
    assert "used 8 GiB and needed 6 GiB more" in story
    assert two["vram"] >= 14 * GIB > one["vram"] == 8 * GIB
    assert "used 14 GiB" in story


def test_job_that_never_fits_fails_with_a_reason(machine: Machine, gpus: Devices) -> None:
    gpus.add(12 * GIB, used=0)
    first, again = a_story(
        machine, holds=11, wanted=4, total=12, free=1, then=1, vram="11GiB", retries=3
    )

    first.let_go()

    machine.until_state(first.job, "failed")
    story = machine.show_text(first.job)
    assert "has at most" in story
    assert "12 GiB" in story
    assert not again.started


# as HOLDING; once it was let go it takes $4 bytes instead, until it is let go again
GROWING = f"""
{HOLDING}
set -- "$4"
{TAKE}
read line <"$0" || true
"""


def test_job_with_an_estimate_yields_requested_memory_and_runs_alone(
    machine: Machine, gpus: Devices
) -> None:
    card = gpus.add(24 * GIB, used=0)
    declared = machine.hold(1, gpus=1, vram="12GiB")
    assert declared.cards == [card]
    said, gate = machine.places()
    argv = ["/bin/sh", "-c", GROWING, str(gate), *(str(word) for word in (GIB, said, gate))]
    job = machine.add(*argv, str(16 * GIB), gpus=1)
    growing = Program(job=job, said=said, gate=gate)
    assert growing.cards == [card]
    said.unlink()

    growing.let_go()

    machine.wait_for_reason(job, "stopped: cuda:0 had only 7 GiB free for reservations of 11 GiB")
    assert machine.state(declared.job) == "running"
    machine.wait_for_reason(job, "on an empty GPU", "cuda:0 runs job 1")
    gpus.hold(
        card, 1, 3 * GIB
    )  # memory of a peer user; the memory that the job used is available anyway
    machine.wait_for_usage(card, 4 * GIB)
    declared.let_go()
    assert growing.cards == [card]
    beside = machine.hold(0.5, gpus=1, vram="0.5GiB")
    machine.wait_for_reason(beside.job, f"cuda:0 runs job {job} exclusively")
    growing.let_go()
    machine.wait_for_usage(card, 19 * GIB)
    growing.let_go()
    machine.until_state(job, "done")
    first, second = machine.show(job)["attempts"]
    assert first["vram"] is None
    assert 16 * GIB <= second["vram"] <= 21 * GIB
    assert "loses the least work. Queued again on an empty GPU, " in machine.show_text(job)


def test_jobs_on_a_lost_gpu_are_retried_elsewhere_without_charge(
    machine: Machine, gpus: Devices
) -> None:
    lost, fallen, broken = (gpus.add(used=0) for _ in range(3))
    programs = [machine.hold(1, gpus=1, vram="7GiB", retries=0) for _ in range(3)]
    on = {one.cards[0]: one for one in programs}
    assert set(on) == {lost, fallen, broken}
    spare = gpus.add(used=0)
    until(lambda: spare in machine.gpu_status(), "the spare card is seen")
    for one in programs:
        one.said.unlink()

    gpus.lose(lost)
    gpus.xid(fallen, 79)
    gpus.xid(broken, 48)

    for one in programs:
        assert one.cards == [spare]
    seen = machine.gpu_status()
    assert "lost" in seen[lost]["fault"].lower()
    assert "Xid 79" in seen[fallen]["fault"]
    assert "Xid 48" in seen[broken]["fault"]
    assert [seen[one]["health"] for one in (lost, fallen, broken, spare)] == ["faulty"] * 3 + ["ok"]
    assert "Xid 79" in machine.call("gpus").stdout
    assert "Xid 79" in machine.show_text(on[fallen].job)
    waiting = machine.hold(1, gpus=1, vram="7GiB")
    machine.wait_for_reason(waiting.job, "Xid 79", "cuda:3")
    for one in programs:
        one.let_go()
        machine.until_state(one.job, "done")


SAMPLE_MAX_AGE_S = 1.0
SILENCE = {
    "launcher.queue.gpu.monitor.DRIVER_TIMEOUT_S": 2.0,
    "launcher.queue.scheduler.gpus.gpu_state.SAMPLE_MAX_AGE_S": SAMPLE_MAX_AGE_S,
}


@pytest.fixture
def hasty(tmp_path: Path, gpus: Devices) -> Iterator[Machine]:
    """The same, and the scheduler soon misses the answer of a driver."""
    with a_machine(tmp_path, gpus) as machine:
        shorten(machine.project.environment, SILENCE)
        machine.serve()
        yield machine


def until_outdated() -> None:
    """Wait until what the scheduler has seen is too old."""
    since = time.monotonic()
    until(lambda: time.monotonic() - since > 1.3 * SAMPLE_MAX_AGE_S, "it is too old")


def test_hanging_driver_blocks_only_gpu_jobs(hasty: Machine, gpus: Devices) -> None:
    card = gpus.add(used=0)
    running = hasty.hold(1, gpus=1, vram="1GiB")
    assert running.cards == [card]
    gpus.hang()
    until_outdated()

    waiting = hasty.hold(1, gpus=1, vram="1GiB")
    jobs = [hasty.add("true") for _ in range(3)]
    for job in jobs:
        hasty.until_state(job, "done")
    hasty.wait_for_reason(waiting.job, "cuda:0", "the driver has not answered for")
    running.let_go()
    hasty.until_state(running.job, "done")
    hasty.call("status")
    assert not waiting.started
    gpus.hang(on=False)

    assert waiting.cards == [card]


def test_jobs_survive_a_driver_that_stops_responding(hasty: Machine, gpus: Devices) -> None:
    card = gpus.add(used=0)
    running = hasty.hold(1, gpus=1, vram="1GiB")
    assert running.cards == [card]

    gpus.unload(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    until_outdated()

    waiting = hasty.hold(1, gpus=1, vram="1GiB")
    hasty.wait_for_reason(waiting.job, "driver was updated")
    assert hasty.state(running.job) == "running"


def test_number_means_the_gpu_that_had_it_when_the_job_was_queued(
    machine: Machine, gpus: Devices
) -> None:
    a, b, c = (gpus.add(used=0) for _ in range(3))
    first = machine.hold(4, device="cuda:0", vram="4GiB")  # before the first reading
    assert first.cards == [a]
    held = machine.hold(4, device="cuda:1", vram="4GiB", hold=True)
    gone = machine.hold(4, device="cuda:0", vram="4GiB", hold=True)
    machine.kill_scheduler()
    gpus.take_out(a)  # as after a restart of the machine: B is cuda:0, and C cuda:1
    machine.serve()
    machine.call("release", str(held.job), str(gone.job))
    assert held.cards == [b]
    machine.wait_for_reason(gone.job, f"waiting for cuda:0 ({a})", "has gone", f"cuda:1 ({c})")
    later = machine.hold(4, device="cuda:1", vram="4GiB")
    assert later.cards == [c]
    machine.call("edit", str(gone.job), "--set", f"resources.device={c}")
    assert gone.cards == [c]


def test_job_of_a_gpu_that_goes_waits_for_this_gpu(machine: Machine, gpus: Devices) -> None:
    a, b = gpus.add(used=0), gpus.add(used=0)
    first = machine.hold(4, device="cuda:0", vram="4GiB")
    assert first.cards == [a]
    gpus.take_out(a)  # the other GPU is cuda:0 now
    machine.wait_for_reason(first.job, f"waiting for cuda:0 ({a})", f"has only cuda:0 ({b})")
    assert machine.state(first.job) == "queued"
    gpus.mend(a)
    machine.until_state(first.job, "running")


def test_uuid_stands_with_a_number_that_could_mean_two_gpus(
    machine: Machine, gpus: Devices
) -> None:
    a, b, c = (gpus.add(used=0) for _ in range(3))
    assert machine.hold(1, vram="1GiB", device="cuda:2").cards == [c]
    held = machine.hold(4, vram="4GiB", device="cuda:1", hold=True)
    gpus.take_out(a)
    until(lambda: "GPU-00000000" in machine.call("top", "--once").stdout, "its loss is seen")
    machine.call("release", str(held.job))
    assert held.cards == [b]
    assert "on cuda:0 (GPU-00000001)" in machine.why(held.job)
    shown = machine.call("top", "--once").stdout
    assert "cuda:0 (GPU-00000000)" in shown
    assert "cuda:0 (GPU-00000001)" in shown
    assert "cuda:1 (GPU-00000002)" in shown  # the message of the job for cuda:2
    told = machine.refused("add", "--device", "cuda:2", "--", "true")
    assert "this machine has only cuda:0 (GPU-00000001), cuda:1" in told
    for _ in range(2):  # the second time no GPU is remembered as cuda:0 except B
        text = machine.show_text(held.job)
        assert "cuda:1 (GPU-00000001)" in text
        assert "cuda:0 (GPU-00000001), reserved 4 GiB" in text
        machine.kill_scheduler()
        machine.serve()


def test_device_takes_the_uuid_of_a_gpu_or_of_a_mig_instance(
    machine: Machine, gpus: Devices
) -> None:
    a, b = gpus.add(used=0), gpus.add(used=0)
    _, part = gpus.divide(b, 12 * GIB, 12 * GIB)
    whole, piece = (machine.hold(1, device=uuid, vram="2GiB") for uuid in (a, part))
    assert (whole.cards, piece.cards) == ([a], [part])
    short = machine.hold(1, device=a[:12], vram="2GiB")
    assert short.cards == [a]
    told = machine.refused("add", "--device", "GPU-ffffffff", "--", "true")
    assert f"needs GPU-ffffffff, but this machine has only cuda:0 ({a})" in told
    assert "Leave one of them out" in machine.refused(
        "add", "--device", a, "--gpus", "2", "--", "true"
    )
    refused = machine.refused("add", "--device", "GPU", "--", "true")
    assert "a GPU such as cuda:1 or its UUID" in refused


def test_gpu_without_memory_of_its_own_shares_the_main_memory(
    machine: Machine, gpus: Devices
) -> None:
    card = gpus.add(used=0)
    gpus.refuse("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_NOT_SUPPORTED)
    first = machine.hold(0, gpus=1)
    assert first.cards == [card]
    again = machine.call("add", "--vram", "64MiB", "--wait", "--", "true")
    assert "note: cuda:0 uses the main memory of the machine" in again.stderr
    alone = machine.hold(0, device="cuda:0", exclusive=True)
    machine.wait_for_reason(alone.job, "waiting for an empty GPU", "cuda:0 runs job 1")
    assert (
        "--exclusive keeps away other jobs on the GPU"
        in machine.call("add", "--exclusive", "--hold", "--", "true").stderr
    )
    first.let_go()
    assert alone.cards == [card]
    alone.let_go()
    reserved = machine.hold(0, vram="1GiB", device="cuda:0")
    assert reserved.cards == [card]
    rest = usable_bytes() - GIB // 2
    host = machine.add("true", ram=f"{rest >> 20}MiB")
    machine.wait_for_reason(host, "of main memory", "1 GiB reserved on cuda:0")
    both = ("add", "--ram", f"{rest >> 20}MiB", "--vram", "1GiB", "--", "true")
    assert "main memory and GPU memory together" in machine.refused(*both)
    told = machine.refused("add", "--vram", "99999GiB", "--", "true")
    assert "this machine can never run it" in told
    status = machine.gpu_status()[card]
    assert (status["shares_host_memory"], status["health"]) == (True, "ok")
    assert (
        "is the main memory of the machine"
        in machine.call("gpus").stdout + machine.call("doctor").stdout
    )


def test_gpu_whose_memory_is_unknown_for_another_reason_is_named(
    machine: Machine, gpus: Devices
) -> None:
    card = gpus.add(used=0)
    gpus.refuse("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_UNKNOWN)
    job = machine.add("true", gpus=1)
    reason = machine.wait_for_reason(job, "waiting for a GPU", "does not report its used memory")
    assert "0 B" not in reason
    told = machine.call("add", "--gpus", "1", "--", "true").stderr
    assert "warning: the driver does not report the used memory of cuda:0" in told
    assert machine.gpu_status()[card]["health"] == "warning"
    gpus.allow("nvmlDeviceGetMemoryInfo")
    machine.until_state(job, "done")
