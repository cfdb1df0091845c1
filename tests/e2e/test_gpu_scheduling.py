"""Jobs share the GPUs of a machine: each gets the memory it needs, and no card is overfilled."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.system.errors import pluralize
from tests.build import shell, supervisor_of, until
from tests.e2e.machine import CORES, HOLDING, Machine, Program, a_machine
from tests.nvml.standin import GIB, Devices

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
    ("", {"gpus": 3, "vram": "1GiB"}, "needs 3 GPUs, but this machine has 2"),
    ("", {"vram": "200GiB"}, "needs 200 GiB of GPU memory, but "),
    (
        'reserve = "4GiB"',
        {"vram": "21GiB"},
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


def test_request_above_the_machine_is_refused_with_the_limit(
    machine: Machine, gpus: Devices
) -> None:
    for _ in range(2):
        gpus.add(24 * GIB, used=0)
    known = machine.hold(0, gpus=1, vram="1GiB")
    assert known.cards
    for sharing, asked, said in NEVER:
        machine.configure(f"[sharing]\n{sharing}\n")
        flags = [f"--{key}={value}" for key, value in asked.items()]
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
