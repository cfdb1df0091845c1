"""Jobs share the GPUs of a machine: each gets the memory it needs, and no card is overfilled."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import pluralize
from launcher.scheduler.gpus.gpu_state import SAMPLE_MAX_AGE_S
from tests.build import shell, supervisor_of, until
from tests.e2e.machine import CORES, HOLDING, Machine, Program, a_machine
from tests.nvml.standin import GIB, TAKE, Devices

BURST = """
name: burst
about: more jobs than the cards hold at once
resources: {{gpus: 1}}
command:
{jobs}
"""
NEVER: tuple[tuple[str, dict[str, object], str], ...] = (  # sharing of the GPUs, and the request
    (
        "",
        {"cpus": 64},
        f"needs 64 CPU cores, but this machine has {pluralize(CORES, 'usable core')}",
    ),
    ("", {"ram": "900GiB"}, "needs 900 GiB of main memory, but this machine has "),
    ("", {"device": "cuda:5"}, "this machine has only cuda:0, cuda:1"),
    ("", {"gpus": 3, "min_vram": "1GiB"}, "needs 3 GPUs, but this machine has 2"),
    ("", {"min_vram": "200GiB"}, "needs 200 GiB of GPU memory, but "),
    (
        'reserve = "4GiB"',
        {"min_vram": "21GiB"},
        "largest GPU has at most 20 GiB for it (4 GiB is reserved for other users)",
    ),
    (
        "devices = [0]",
        {"device": "cuda:1"},
        "needs cuda:1, but [sharing] devices = [0] in config.toml allows",
    ),
)
SIZES = (3, 5, 8, 11)  # GiB; a card has 24


@pytest.fixture
def machine(tmp_path: Path, gpus: Devices) -> Iterator[Machine]:
    """A machine without cards, and a scheduler that has not yet looked for any."""
    with a_machine(tmp_path, gpus) as machine:
        machine.serve()
        yield machine


def overfull(seen: dict[str, dict[str, Any]]) -> list[str]:
    """Return the cards on which more is used and promised than there is."""
    return [
        f"{gpu['label']} used={gpu['used']} promised={gpu['promised']} of {gpu['total']}"
        for gpu in seen.values()
        if gpu["used"] + gpu["promised"] > gpu["total"]
    ]


def test_burst_of_jobs_shares_gpus_without_overcommit(machine: Machine, gpus: Devices) -> None:
    cards = [gpus.add(used=0) for _ in range(3)]
    gpus.hold(cards[2], 1, 9 * GIB)  # somebody else's
    programs, lines = [], []
    for number in range(20):
        refusal, gate = machine.places()
        size = SIZES[number % len(SIZES)]
        argv = ["/bin/sh", "-c", HOLDING, "sh", str(size * GIB - GIB // 4), str(refusal), str(gate)]
        asked = f"resources: {{vram: {size}GiB}}"
        lines.append(f"  - {{name: job{number}, argv: {json.dumps(argv)}, {asked}}}")
        programs.append(Program(job=number + 1, said=refusal, gate=gate))
    file = machine.project.write("burst.yaml", BURST.format(jobs="\n".join(lines)))
    machine.call("run", file, "--detach")

    most = 0
    waiting = list(programs)
    while waiting:
        until(lambda: any(one.started for one in waiting), "one more has its memory")
        seen = machine.gpu_status()
        most = max(most, sum(len(gpu["jobs"]) for gpu in seen.values()))
        assert overfull(seen) == []
        for one in [one for one in waiting if one.started][:3]:
            waiting.remove(one)
            one.let_go()
    for one in programs:
        machine.until_state(one.job, "done")
    assert most >= 6, "the cards were not shared"
    assert {card for one in programs for card in one.cards} == set(cards)


def test_gpu_sharing_respects_the_job_limit_and_the_reserve(
    machine: Machine, gpus: Devices
) -> None:
    gpus.add(24 * GIB, used=0)
    machine.configure('[sharing]\nmax_per_gpu = 2\nreserve = "4GiB"\n')

    first, second, third = (machine.hold(1, gpus=1, vram="1GiB") for _ in range(3))
    large = machine.hold(1, gpus=1, vram="20GiB")

    assert first.cards == second.cards
    machine.wait_for_reason(third.job, "cuda:0 runs", "its limit is 2 jobs")
    assert not third.started
    machine.configure('[sharing]\nmax_per_gpu = 4\nreserve = "4GiB"\n')
    assert third.cards
    machine.wait_for_reason(large.job, "waiting for 20 GiB", "4 GiB is reserved for other users")
    assert not large.started


def test_expected_start_is_unknown_while_the_blocking_job_is_paused(
    machine: Machine, gpus: Devices
) -> None:
    gpus.add(24 * GIB, used=0)
    before = machine.hold(1, gpus=1, vram="20GiB", time_limit="1h")
    assert before.cards
    waiting = machine.hold(1, gpus=1, vram="20GiB")
    machine.wait_for_reason(waiting.job, "cuda:0 will have room in about")
    machine.call("pause", str(before.job))
    until(lambda: "in about" not in machine.why(waiting.job), "no time is told any more")
    machine.wait_for_reason(waiting.job, "waiting for 20 GiB")
    machine.call("resume", str(before.job))
    machine.wait_for_reason(waiting.job, "cuda:0 will have room in about")


def test_exclusive_job_has_its_gpu_alone(machine: Machine, gpus: Devices) -> None:
    first, second = gpus.add(used=0), gpus.add(used=0)
    gpus.hold(first, 1, 4 * GIB)  # another user's

    alone = machine.hold(1, gpus=1, vram="1GiB", exclusive=True)

    assert alone.cards == [second]
    beside_it = machine.hold(1, device="cuda:1", vram="1GiB")
    machine.wait_for_reason(beside_it.job, "cuda:1 runs", f"job {alone.job}")
    late = machine.hold(1, gpus=1, vram="1GiB", exclusive=True)
    machine.wait_for_reason(late.job, "cuda:0 has 4 GiB in use by other users", "cuda:1 runs")
    assert not beside_it.started
    assert not late.started
    alone.let_go()
    assert beside_it.cards == [second]
    gpus.leave(first, 1)
    assert late.cards == [first]


def test_short_jobs_do_not_starve_an_exclusive_job(machine: Machine, gpus: Devices) -> None:
    gpus.add(used=0)
    many = machine.queue_many(shell(f"{TAKE} sleep 0.3", str(GIB)), 400, device="cuda")
    until(lambda: machine.state(many[2]) == "done", "the short ones run")

    alone = machine.hold(1, gpus=1, exclusive=True)

    assert alone.cards
    assert machine.state(many[-1]) == "queued", "it waited for all of them"
    (gpu,) = machine.gpu_status().values()
    assert [job["job"] for job in gpu["jobs"]] == [alone.job]
    machine.call("cancel", "--yes", *map(str, many))


def test_job_gets_the_requested_gpu_among_those_visible_to_its_caller(
    machine: Machine, gpus: Devices
) -> None:
    cards = [gpus.add(used=0) for _ in range(3)]

    overridden = machine.hold(1, device="cuda:1", vram="1GiB")
    numbered = machine.hold(1, gpus=1, vram="1GiB", environ={"CUDA_VISIBLE_DEVICES": "2"})
    named = machine.hold(1, gpus=1, vram="1GiB", environ={"CUDA_VISIBLE_DEVICES": cards[1]})
    # --device counts as `launcher gpus` does, whatever the caller sees

    assert overridden.cards == [cards[1]]
    assert overridden.said.read_text() == f"{cards[1]}/PCI_BUS_ID\n"
    assert numbered.cards == [cards[2]]
    assert named.cards == [cards[1]]
    for flag, shown in (("--device=cuda:1", "0,2"), ("--gpus=1", "")):
        refusal = machine.refused(
            "add", flag, "--", "true", environ={"CUDA_VISIBLE_DEVICES": shown}
        )
        assert f"CUDA_VISIBLE_DEVICES={shown}, set when it was queued, shows" in refusal


def test_job_gets_gpu_numbers_in_pci_order_on_request(machine: Machine, gpus: Devices) -> None:
    cards = [gpus.add(used=0) for _ in range(3)]

    def queued(**options: object) -> list[str]:
        said, gate = machine.places()
        script = 'echo "$CUDA_VISIBLE_DEVICES/$CUDA_DEVICE_ORDER" >"$1.tmp"; mv "$1.tmp" "$1"'
        argv = shell(script, str(said))
        job = machine.add(*argv, environ=None, vram="1GiB", **options)
        return [*Program(job=job, said=said, gate=gate).cards, str(job)]

    *numbers, numbered = queued(device="cuda:2", gpu_ids="numbers")
    assert (numbers, queued(device="cuda:2")[:-1]) == (["2"], [cards[2]])
    assert queued(gpus=3, gpu_ids="numbers")[:-1] == ["0", "1", "2"]
    assert "gpu ids" in machine.show_text(int(numbered))
    name = machine.project.write(
        "numbers.yaml",
        "name: numbers\nresources: {gpu_ids: numbers, gpus: 1}\n"
        'command:\n  - {name: some, argv: ["sh", "-c", "echo $CUDA_VISIBLE_DEVICES > given"]}\n',
    )
    machine.call("run", name, "--detach")
    machine.call("wait", "run:numbers")
    assert (machine.project.folder / "given").read_text().strip() in {"0", "1", "2"}


def test_gpu_numbers_are_refused_on_a_machine_with_mig_instances(
    machine: Machine, gpus: Devices
) -> None:
    gpus.divide(gpus.add(40 * GIB, used=0), 20 * GIB, 10 * GIB)
    known = machine.hold(0, gpus=1, vram="1GiB")
    assert known.cards
    said = "gpu_ids=numbers does not work on a machine with MIG instances. Use gpu_ids=uuids"
    words = ("--gpus=1", "--gpu-ids=numbers")
    assert said in machine.refused("add", *words, "--", "true")
    known.let_go()


def test_request_above_the_machine_is_refused_with_the_limit(
    machine: Machine, gpus: Devices
) -> None:
    for _ in range(2):
        gpus.add(24 * GIB, used=0)
    known = machine.hold(0, gpus=1, vram="1GiB")
    assert known.cards
    for sharing, asked, said in NEVER:
        machine.configure(f"[sharing]\n{sharing}\n")
        options = {"min_vram": "vram"}
        flags = [f"--{options.get(key, key)}={value}" for key, value in asked.items()]
        assert said in machine.refused("add", *flags, "--", "true")
        resources = ", ".join(f"{key}: {value}" for key, value in asked.items())
        more = "" if asked.keys() - {"cpus", "ram"} else ", device: cpu"
        file = machine.project.write(
            "large.yaml",
            f"name: large\nabout: too much\nresources: {{{resources}{more}}}\n"
            'command:\n  - {name: some, argv: ["true"]}\n',
        )
        assert said in machine.refused("run", file, "--detach")
        listed = machine.rehearsed("run", file, "--dry-run")
        assert " ".join(said.split()) in " ".join(listed.split())
    known.let_go()


def test_job_that_nearly_fills_an_idle_gpu_starts_again(machine: Machine, gpus: Devices) -> None:
    card = gpus.add(24 * GIB, used=GIB // 2)  # what the driver keeps of every card

    first = machine.hold(22.5, gpus=1)
    assert first.cards == [card]
    machine.wait_for_usage(card, 23 * GIB)
    first.let_go()
    machine.until_state(first.job, "done")
    # with its margin that is more than the card ever has free, and less than its size
    again = machine.hold(22.5, gpus=1)
    assert again.cards == [card]
    small = machine.hold(0.25, gpus=1, vram="0.25GiB")
    machine.wait_for_reason(small.job, f"cuda:0 runs job {again.job} exclusively")
    again.let_go()
    assert small.cards == [card]


def test_job_starts_again_on_a_gpu_with_less_free_memory_than_it_used(
    machine: Machine, gpus: Devices
) -> None:
    card = gpus.add(24 * GIB, used=GIB // 2)
    refusal, gate = machine.places()
    argv = shell(HOLDING, str(round(22.5 * GIB)), str(refusal), str(gate))
    first = Program(job=machine.add(*argv, gpus=1), said=refusal, gate=gate)
    assert first.cards == [card]
    machine.wait_for_usage(card, 23 * GIB)
    first.let_go()
    machine.until_state(first.job, "done")
    refusal.unlink()
    gpus.set(card, used=7 * GIB // 4)  # a screen was plugged in meanwhile
    until(
        lambda: machine.is_measurement_older(2 * SAMPLE_MAX_AGE_S),
        "what was seen before does not count any more",
    )

    again = Program(job=machine.add(*argv, gpus=1), said=refusal, gate=gate)

    assert again.cards == [card]
    assert "reserved 22.2 GiB (learned from 1 run), 22.2 GiB were free" in machine.show_text(
        again.job
    )
    again.let_go()


def test_request_above_usable_gpu_memory_is_refused(machine: Machine, gpus: Devices) -> None:
    gpus.add(24 * GIB, used=GIB // 2)
    known = machine.hold(0, gpus=1, vram="1GiB")
    assert known.cards
    known.let_go()
    machine.until_state(known.job, "done")

    refusal = machine.refused("add", "--gpus=1", "--vram=23.75GiB", "--", "true")

    assert "needs 23.8 GiB of GPU memory, but cuda:0 has at most 23.5 GiB for it" in " ".join(
        refusal.split()
    )


def test_job_can_queue_a_gpu_job(machine: Machine, gpus: Devices) -> None:
    card = gpus.add(used=0)
    refusal, gate = machine.places()
    command = Path(sys.executable).parent / "launcher"
    inner = shell(f"echo threads=$OMP_NUM_THREADS; {HOLDING}", str(GIB), str(refusal), str(gate))

    # this one is on the CPU: it sees no GPU
    outer = machine.add(str(command), "add", "--gpus=1", "--cpus=3", "--", *inner, cpus=2)

    machine.until_state(outer, "done")
    queued = Program(job=outer + 1, said=refusal, gate=gate)
    assert queued.cards == [card]
    assert "threads=3" in machine.call("logs", str(queued.job)).stdout
    queued.let_go()


def test_program_without_gpu_request_sees_no_gpu(machine: Machine, gpus: Devices) -> None:
    gpus.add(used=0)

    plain = machine.hold(0)

    assert plain.cards == []
    assert plain.said.read_text().startswith("/")


def test_job_with_two_gpus_gets_both_or_waits(machine: Machine, gpus: Devices) -> None:
    cards = [gpus.add(used=0), gpus.add(used=0)]
    first = machine.hold(1, gpus=1, vram="20GiB")
    taken = first.cards

    pair = machine.hold(9, gpus=2, vram="10GiB")
    machine.wait_for_reason(pair.job, "2 GPUs", "10 GiB")
    # what is smaller may fill the gap, as long as nobody waits longer for it
    assert not pair.started
    first.let_go()

    assert sorted(pair.cards) == sorted(cards)
    assert taken[0] in cards
    jobs = [[job["job"] for job in gpu["jobs"]] for gpu in machine.gpu_status().values()]
    assert jobs == [[pair.job], [pair.job]]


def test_new_scheduler_after_a_kill_does_not_overcommit_gpus(
    machine: Machine, gpus: Devices
) -> None:
    gpus.add(24 * GIB, used=0)
    running = [machine.hold(1, gpus=1, vram="10GiB") for _ in range(2)]  # 18 GiB not yet used
    for one in running:
        assert one.cards

    machine.kill_scheduler()
    machine.serve()
    third = machine.hold(1, gpus=1, vram="10GiB")

    machine.wait_for_reason(third.job, "waiting for 10 GiB", "reserved for")
    (gpu,) = machine.gpu_status().values()
    assert gpu["used"] + gpu["promised"] == 20 * GIB
    assert [job["job"] for job in gpu["jobs"]] == [one.job for one in running]
    running[0].let_go()
    machine.until_state(running[0].job, "done")
    assert third.cards
    assert overfull(machine.gpu_status()) == []
    assert [len(machine.show(one.job)["attempts"]) for one in running] == [1, 1]


def test_program_with_a_killed_supervisor_keeps_its_reservation(
    machine: Machine, gpus: Devices
) -> None:
    card = gpus.add(24 * GIB, used=0)
    first = machine.hold(10, gpus=1, vram="14GiB")
    assert first.cards == [card]
    machine.wait_for_usage(card, 10 * GIB)

    os.kill(supervisor_of(machine.project.home.attempt(first.job, 1)), signal.SIGKILL)

    second = machine.hold(1, gpus=1, vram="9GiB")
    assert second.cards == [card]  # 10 used, 4 + 9 promised
    third = machine.hold(1, gpus=1, vram="2GiB")
    machine.wait_for_reason(third.job, "waiting for 2 GiB", "reserved for jobs 1, 2")
    assert not third.started
    assert machine.gpu_status()[card]["ours"] == 11 * GIB
    assert overfull(machine.gpu_status()) == []
