"""Measurements of GPUs and jobs, estimates from them, and their display."""

import json
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from launcher.queue.workers.memory_share import Share
from tests.build import until
from tests.e2e.machine import HOLDING, Machine, Program, a_machine
from tests.nvml.standin import GIB, TAKE, Devices

STUDY = """
name: study
about: programs of every size
command:
{jobs}
"""


@pytest.fixture
def machine(tmp_path: Path, gpus: Devices) -> Iterator[Machine]:
    """A machine without cards, and a scheduler that has not yet looked for any."""
    with a_machine(tmp_path, gpus) as machine:
        machine.project.environment["STANDIN_CALLS"] = str(machine.project.folder / "calls")
        machine.serve()
        yield machine


def a_study(machine: Machine, **resources: str) -> tuple[str, list[Program]]:
    """Write a task file with a program for each of these demands.

    Returns:
        Its name, and the programs, which get these numbers where nothing else was queued before.
    """
    jobs, programs = [], []
    for number, (name, asked) in enumerate(resources.items(), 1):
        said, gate = machine.places()
        argv = json.dumps(["/bin/sh", "-c", HOLDING, "sh", str(GIB), str(said), str(gate)])
        jobs.append(f"  - {{name: {name}, argv: {argv}, resources: {asked}}}")
        programs.append(Program(job=number, said=said, gate=gate))
    return machine.project.write("study.yaml", STUDY.format(jobs="\n".join(jobs))), programs


# as HOLDING, and takes its memory only once it was let go; then it ends when it is let go again
LATE = f"""
echo "$CUDA_VISIBLE_DEVICES/$CUDA_DEVICE_ORDER" >"$2.tmp" && mv "$2.tmp" "$2"
read line <"$3" || true
{TAKE}
read line <"$3" || true
"""


def test_jobs_of_a_type_wait_for_the_first_measurement_and_are_packed_by_it(
    machine: Machine, gpus: Devices
) -> None:
    card = gpus.add(24 * GIB, used=0)

    first, second = (machine.hold(5, script=LATE, gpus=1) for _ in range(2))

    assert first.cards == [card]
    assert "reserved 3 GiB at first (" in machine.show_text(first.job)
    machine.wait_for_reason(
        second.job, "job 1, the first similar job, is being measured on cuda:0", "waiting for 3 GiB"
    )
    declared = machine.hold(0.5, gpus=1, vram="1GiB")  # it does not need to wait for that
    assert declared.cards == [card]
    assert not second.started
    first.let_go()
    assert second.cards == [card]
    assert machine.state(first.job) == "running"
    assert "reserved 6.8 GiB (estimated from 1 similar job)" in machine.show_text(second.job)
    until(
        lambda: "from 1 similar job)" in machine.show(second.job)["expected"]["memory"],
        "the running job is counted",
    )
    assert machine.show(second.job)["attempts"][0]["vram"] is None
    first.let_go()
    machine.until_state(first.job, "done")
    assert "used 5 GiB" in machine.show_text(first.job)

    more = [machine.hold(5, script=LATE, gpus=1) for _ in range(2)]
    for one in more:
        assert one.cards == [card]
        assert "learned from 1 run" in machine.show_text(one.job)
    claims = {machine.show(one.job)["attempts"][0]["vram"] for one in more}
    assert len(claims) == 1
    assert 5 * GIB < claims.pop() < 6 * GIB


def done_alone(machine: Machine, amount: float, *words: str) -> Program:
    """Run a program that takes so many GiB to its end, and see that this was measured."""
    program = machine.hold(amount, gpus=1, words=words)
    (card,) = program.cards
    machine.wait_for_usage(card, round(amount * GIB))
    program.let_go()
    machine.until_state(program.job, "done")
    return program


def test_measurement_from_another_gpu_model_is_used_with_a_margin(
    machine: Machine, gpus: Devices
) -> None:
    gpus.drive("535.104")
    card = gpus.add(24 * GIB, used=0)
    first = done_alone(machine, 5)
    assert first.cards == [card]
    machine.kill_scheduler()
    gpus.set(card, name="NVIDIA_H100", total=80 * GIB)
    machine.serve()

    second = machine.hold(5, gpus=1)

    assert second.cards == [card]
    assert "learned from 1 run on another GPU (A10)" in machine.show_text(second.job)
    assert machine.show(second.job)["attempts"][0]["vram"] == round(5 * GIB * 1.25)


def test_dry_run_shows_placements_and_jobs_that_never_fit(machine: Machine, gpus: Devices) -> None:
    gpus.add(12 * GIB, used=0)
    card = gpus.add(24 * GIB, used=0)
    usual = {"known": "{device: 'cuda:0', vram: auto}", "large": "{vram: 20GiB}"}
    file, (known, *_) = a_study(machine, **usual)
    machine.call("run", file, "--detach")
    machine.wait_for_usage(known.cards[0], GIB)
    known.let_go()
    machine.until_state(known.job, "done")
    machine.call("cancel", "*", "--yes")

    text = (machine.project.folder / file).read_text()
    text += '  - {name: huge, argv: ["true"], resources: {vram: 30GiB}}\n'
    text += '  - {name: many, argv: ["true"], resources: {gpus: 3, vram: 1GiB}}\n'
    machine.project.write(file, text)
    said = machine.rehearsed("run", file, "--dry-run", "--all", "--force")
    lines = {words[0]: words[1:] for line in said.splitlines() if (words := line.split())}

    assert "measured" in said
    assert lines["command/known"][:2] == ["1", "GiB"]
    assert lines["command/large"][:2] == ["20", "GiB"]
    assert "cuda:0" in " ".join(lines["First"])
    assert "cuda:1" in " ".join(lines["First"])
    assert said.count("1 job can never start here") == 2
    assert "needs 30 GiB" in said
    assert "needs 3 GPUs" in said
    until(lambda: machine.gpu_status()[card]["jobs"] == [], "nothing was queued")


# This differs from `launcher add --gpus 1` and from the usual request of one GPU. The
# program runs on the CPU, and a dry run prints this. `{device: cuda}` gets a GPU.
@pytest.mark.parametrize("asked", ["{gpus: 1}", "{gpus: 1, vram: auto}"])
def test_task_file_requests_one_gpu_like_the_command_line(
    machine: Machine, gpus: Devices, asked: str
) -> None:
    card = gpus.add(used=0)
    file, (one,) = a_study(machine, one=asked)

    machine.call("run", file, "--detach")

    assert one.cards == [card]


def test_mig_instances_are_used_by_their_uuid(machine: Machine, gpus: Devices) -> None:
    instances = gpus.divide(gpus.add(40 * GIB, used=0), 20 * GIB, 10 * GIB)

    large = machine.hold(1, gpus=1, vram="15GiB")
    small = machine.hold(1, device="cuda:0:1", vram="8GiB")
    waiting = machine.hold(1, gpus=1, vram="8GiB")

    assert [*large.cards, *small.cards] == instances
    machine.wait_for_reason(waiting.job, "waiting for 8 GiB", "cuda:0:0", "cuda:0:1")
    assert not waiting.started
    assert "has at most" in machine.refused("add", "--gpus=1", "--vram=30GiB", "--", "true")
    assert [gpu["label"] for gpu in machine.gpu_status().values()] == ["cuda:0:0", "cuda:0:1"]


@pytest.mark.parametrize("blind", ["no permission", "container"])
def test_worker_memory_reports_replace_missing_driver_data(
    machine: Machine, gpus: Devices, blind: str
) -> None:
    card = gpus.add(24 * GIB, used=0)
    if blind == "no permission":
        for kind in ("Compute", "Graphics"):
            for version in ("_v2", "_v3"):
                function = f"nvmlDeviceGet{kind}RunningProcesses{version}"
                gpus.refuse(function, pynvml.NVML_ERROR_NO_PERMISSION)
        first = machine.hold(10, gpus=1, vram="12GiB")
    else:
        elsewhere = machine.project.folder / "unseen"  # the driver lists none of its processes
        elsewhere.mkdir()
        first = machine.hold(10, gpus=1, vram="12GiB", environ={"STANDIN_TAKEN": str(elsewhere)})
        gpus.hold(card, 4_000_000, None)  # as it looks there: a pid of another namespace
        gpus.set(card, used=10 * GIB)
    assert first.cards == [card]
    machine.wait_for_usage(card, 10 * GIB)
    second = machine.hold(0, gpus=1, vram="11GiB")
    # memory that nobody explains is somebody else's: 14 GiB are free, 12 promised
    machine.wait_for_reason(second.job, "waiting for 11 GiB")
    assert not second.started

    attempt = machine.project.home.attempt(first.job, 1)
    report = Share(attempt.folder)
    report.report(reserved_bytes=9 * GIB, peak=9 * GIB, context=GIB, uuid=card, last=True)

    assert second.cards == [card]
    third = machine.hold(0, gpus=1, vram="2GiB")
    machine.wait_for_reason(third.job, "waiting for 2 GiB", "reserved for")
    assert not third.started
    first.let_go()
    machine.until_state(first.job, "done")
    assert "used 10 GiB" in machine.show_text(first.job)
