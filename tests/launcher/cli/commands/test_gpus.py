"""`launcher gpus` prints the users and faults of the GPUs, in every form."""

import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launcher.frontends.screens.gpu_view import GpuJob, GpuView, draw
from launcher.queue.gpu.gpus_file import GpuStatus, write_gpu_status
from launcher.queue.gpu.monitor import query_gpus_once
from launcher.queue.gpu.nvml import Nvml
from launcher.queue.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.queue.store.queue import Store
from launcher.system.errors import MachineError
from launcher.system.files import Json
from launcher.system.processes import identity
from launcher.system.text_table import width_of
from tests.build import a_seat, enqueue, until
from tests.launcher.conftest import Launcher
from tests.nvml.standin import GIB, TAKE, Devices, asked_here
from tests.screens import texts_of
from tests.terminal import in_a_terminal

GOLDEN = Path(__file__).parents[3] / "data" / "golden"


@pytest.fixture
def devices(gpus: Devices) -> Iterator[Devices]:
    """GPUs that the command line sees, also in this process."""
    with asked_here(gpus):
        yield gpus


@contextmanager
def a_job(store: Store, devices: Devices, uuid: str, used: int, **promised: int) -> Iterator[int]:
    """Run a process below a supervisor of ours that holds memory of a card."""
    child = subprocess.Popen(
        ["/bin/sh", "-c", '/bin/sh -c "$1" sh "$2"; true', "sh", f"{TAKE} read line", str(used)],
        stdin=subprocess.PIPE,
        env=os.environ | devices.environment | {"CUDA_VISIBLE_DEVICES": uuid},
    )
    (job,) = enqueue(store, "train/a")
    who = identity(child.pid)
    assert who is not None
    seat = a_seat(device=uuid, pid=who.pid, start_ticks=who.start_ticks, **promised)
    assert store.claims.claim(job, seat, reason="fits", now=1.0) is not None
    until(lambda: [one for one in devices.taken.iterdir() if one.name.isdigit()], "it is taken")
    yield job
    child.communicate()


def test_machine_without_a_driver_is_reported_without_an_error(
    launcher: Launcher, devices: Devices
) -> None:
    assert launcher("gpus").err == "no GPU found: the driver lists none\n"
    devices.unload()

    answer = launcher.well("gpus")
    assert answer.out == ""
    assert answer.err == "no GPU found: NVIDIA's driver is not loaded\n"
    told = launcher.json("gpus")
    assert told == {"schema": 1, "absent": "NVIDIA's driver is not loaded", "gpus": []}


def test_pipe_receives_one_line_of_numbers_per_gpu(launcher: Launcher, devices: Devices) -> None:
    uuid = devices.add(24 * GIB, used=0, util=64, power=20_500)
    lost = devices.add()
    devices.hold(uuid, 1, 2 * GIB)
    devices.lose(lost, handle=False)

    used, faulty = (line.split("\t") for line in launcher("gpus").out.splitlines())

    assert used == [
        *("cuda:0", uuid, "NVIDIA A10", str(2 * GIB), str(24 * GIB), "0", "0"),
        *("0.64", "35", "20.5", "150", "used", "ok", ""),
    ]
    assert faulty == [
        *("cuda:1", "#1", "unknown", "-", "-", "0", "0"),
        *("-", "-", "-", "-", "-", "faulty", "does not respond: GPU is lost"),
    ]


def test_memory_of_a_job_is_separated_from_other_processes(
    launcher: Launcher, store: Store, devices: Devices
) -> None:
    uuid = devices.add(24 * GIB, used=0)
    devices.hold(uuid, 1, 2 * GIB)

    with a_job(store, devices, uuid, 3 * GIB, vram=5 * GIB) as job:
        told = launcher.json("gpus")
        line = launcher("gpus").out.split("\t")

    (gpu,) = told["gpus"]
    assert told["schema"] == 1
    assert (gpu["used"], gpu["ours"], gpu["promised"]) == (5 * GIB, 3 * GIB, 2 * GIB)
    assert line[3:7] == [str(5 * GIB), str(24 * GIB), str(3 * GIB), str(2 * GIB)]
    (guest,) = gpu["jobs"]
    amounts = {"promised": 5 * GIB, "used": 3 * GIB}
    assert guest == {"job": job, "name": "train/a", "estimated": None, "load": None} | amounts
    assert [one["job"] for one in gpu["processes"]] == [job, None]


def test_estimate_and_load_of_a_job_come_from_the_scheduler(
    home: Home, launcher: Launcher, store: Store, devices: Devices
) -> None:
    uuid = devices.add(24 * GIB, used=0)
    with a_job(store, devices, uuid, 3 * GIB) as job:
        measured: dict[str, Json] = {
            "job": job,
            "number": 1,
            "estimate": 4 * GIB,
            "load": 0.25,
            "load_s": 9.0,
        }
        write_gpu_status(home, GpuStatus(at=time.time(), gpus=()), [measured])
        (gpu,) = launcher.json("gpus")["gpus"]

    (guest,) = gpu["jobs"]
    amounts = {"promised": None, "estimated": 4 * GIB, "used": 3 * GIB}
    assert guest == {"job": job, "name": "train/a", "load": 0.25} | amounts
    assert gpu["promised"] == GIB
    assert gpu["processes"][0]["user"] == pwd.getpwuid(os.getuid()).pw_name


def test_hanging_driver_is_abandoned_and_reported(devices: Devices) -> None:
    devices.add()
    devices.hang()

    with pytest.raises(MachineError, match=r"has not responded for 0\.05 s"):
        query_gpus_once(Nvml().snapshot, timeout_s=0.05)

    devices.hang(on=False)


# --- drawn


def a_gpu(index: int, **changes: object) -> GpuSnapshot:
    values: dict[str, object] = {
        "uuid": f"GPU-{index}",
        "index": index,
        "name": "NVIDIA A100-SXM4-40GB",
        "total": 40 * GIB,
        "used": GIB // 2,
        "processes": (),
        "utilisation": 0.0,
        "power_w": 52.0,
        "power_limit_w": 400.0,
        "temperature_c": 35,
    }
    return GpuSnapshot(**values | changes)  # type: ignore[arg-type]  # checked by the class


def a_process(pid: int, used: int | None, user: str | None = "user2") -> GpuProcess:
    return GpuProcess(pid=pid, used=used, user=user, command=user and "python")


def a_machine() -> list[GpuView]:
    """One card of each sort that a screen tells apart."""
    shared = a_gpu(
        0,
        used=30 * GIB,
        utilisation=0.97,
        temperature_c=71,
        power_w=312.4,
        processes=(a_process(4711, 10 * GIB, "user1"), a_process(9921, 19 * GIB)),
    )
    crowded = a_gpu(
        1,
        used=12 * GIB,
        utilisation=0.4,
        warnings=("a bad row of memory is to be replaced at the next reset",),
        processes=tuple(a_process(5000 + number, GIB) for number in range(10)),
    )
    dead = GpuSnapshot(
        uuid="GPU-2",
        index=2,
        name="NVIDIA A100-SXM4-40GB",
        total=40 * GIB,
        used=None,
        fault="has fallen off the bus (Xid 79)",
    )
    contained = a_gpu(3, used=20 * GIB, processes=(a_process(8, None, None),))
    part = a_gpu(
        4,
        mig=1,
        name="NVIDIA A100 MIG 1g.5gb",
        total=5 * GIB,
        used=0,
        utilisation=None,
        power_w=None,
    )
    guests = (
        GpuJob(job=12, name="train/xception/s1", reserved=14 * GIB, pids=frozenset({4711})),
        GpuJob(job=13, name="train/\x1b[2J/s2", reserved=2 * GIB),
        GpuJob(job=14, name="train/vit/s1", reserved=None, exclusive=True),
    )
    return [
        GpuView(gpu=shared, jobs=guests),
        GpuView(gpu=crowded),
        GpuView(gpu=dead),
        GpuView(gpu=contained),
        GpuView(gpu=a_gpu(5, processes=None, used=9 * GIB)),
        GpuView(gpu=a_gpu(6, used=9 * GIB)),
        GpuView(gpu=a_gpu(7, used=None, processes=None, utilisation=None)),
        GpuView(gpu=part),
    ]


@pytest.mark.parametrize("width", [80, 100])
def test_screen_shows_every_type_of_gpu(width: int) -> None:
    drawn = "\n".join([*texts_of(draw(a_machine(), width)), ""])

    assert drawn == (GOLDEN / f"gpus-{width}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [40, 160])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    assert max(width_of(one.text) for one in draw(a_machine(), width)) <= width


def test_unattributed_memory_is_not_counted_as_own() -> None:
    untold = GpuView(gpu=a_gpu(0, processes=None), jobs=(GpuJob(job=1, name="a", reserved=GIB),))

    assert untold.own_used_bytes is None
    assert untold.unused_reserved_bytes == GIB
    assert untold.to_json()["ours"] is None


def test_terminal_table_contains_no_escape_sequences_of_names(
    devices: Devices, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for key, text in (devices.environment | {"LAUNCHER_HOME": str(tmp_path / "none")}).items():
        monkeypatch.setenv(key, text)
    devices.add(name="NVIDIA_\x1b[31mA10")

    drawn = in_a_terminal("gpus", columns=80)

    assert drawn.startswith("GPU ")
    assert "cuda:0" in drawn
    assert "\x1b" not in drawn
    assert not (tmp_path / "none").exists()
