"""`launcher doctor` looks at a real machine, changes nothing, and says what to do."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.frontends.cli.disk_checks import FilesystemInfo, judge_room, read_disk
from launcher.frontends.cli.findings import CheckStatus, Finding
from launcher.frontends.cli.gpu_checks import (
    Driver,
    Torch,
    find_torch,
    read_pci_gpus,
    try_torch,
)
from launcher.frontends.cli.queue_checks import (
    SLURM,
    Logout,
    find_reservations_folder,
    judge_backends,
    judge_reservations,
    read_logout_settings,
    read_queue_health,
)
from launcher.queue.backends.pilot_status import BackendRow, PilotsFile
from launcher.queue.backends.settings import read_configured_backends
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import State
from launcher.queue.store.inspection import probe_database
from launcher.queue.store.queue import Store
from launcher.system.files import write_json
from launcher.system.installation import install_command
from tests.build import GIB, a_spec, enqueue
from tests.launcher.conftest import Launcher
from tests.nvml.standin import Devices, asked_here

PLACES = (
    "visible GPUs",
    "configuration",
    "queue folder",
    "queue's disk",
    "results' disk",
    "shared memory",
)


SHELL = (
    *("reservations", "clock", "cores", "open files", "processes", "logout"),
    *("leftovers", "scheduler", "queue", "SQLite", "terminal"),
)


NOBODYS_PID = 4_194_000  # a machine gives such numbers only when it has used up all below


@pytest.fixture
def devices(gpus: Devices) -> Iterator[Devices]:
    """GPUs that the command line sees, also in this process."""
    with asked_here(gpus):
        yield gpus


Told = dict[str, dict[str, str]]


def report_of(launcher: Launcher, *, code: int = 0) -> Told:
    answer = launcher("doctor", "--json")
    record = json.loads(answer.out)
    assert (answer.code, record["schema"]) == (code, 1), answer
    return {one["name"]: one for one in record["findings"]}


# --- the command


def test_check_of_a_machine_without_gpus_and_queue_changes_nothing(
    launcher: Launcher, devices: Devices, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    devices.unload()
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "none"))

    told = report_of(launcher)

    assert list(told) == ["driver", "CUDA", *PLACES, *SHELL]
    assert told["driver"]["verdict"] in {"unknown", "warning"}
    assert "NVIDIA's driver is not loaded" in told["driver"]["told"]
    assert "no queue yet" in told["queue"]["told"]
    assert not (tmp_path / "none").exists()


def test_pipe_receives_one_line_of_four_columns_per_finding(
    launcher: Launcher, devices: Devices
) -> None:
    devices.add()

    answer = launcher("doctor")

    rows = [line.split("\t") for line in answer.out.splitlines()]
    assert {len(row) for row in rows} == {4}
    assert {row[1] for row in rows} <= {"ok", "warning", "trouble", "unknown"}
    assert all(row[3] for row in rows)


def test_faulty_gpu_and_users_of_other_gpus_are_reported(
    launcher: Launcher, devices: Devices
) -> None:
    used, lost = devices.add(24 * GIB), devices.add()
    devices.hold(used, NOBODYS_PID, 2 * GIB)
    devices.lose(lost, handle=False)

    told = report_of(launcher)

    assert list(told) == [
        "driver",
        "CUDA",
        "GPUs",
        "visible GPUs",
        "other users",
        *PLACES[1:],
        *SHELL,
    ]
    assert told["GPUs"]["verdict"] == "warning"
    assert "cuda:1 does not respond: GPU is lost; 1 of 2 GPUs usable" in told["GPUs"]["told"]
    assert "an unknown user 2 GiB on cuda:0" in told["other users"]["told"]
    assert told["CUDA"]["verdict"] in {"unknown", "warning"}  # the stand-in has no version

    devices.lose(used, handle=False)
    assert report_of(launcher, code=3)["GPUs"]["verdict"] == "trouble"


def test_stopped_and_damaged_queues_are_reported(
    launcher: Launcher, store: Store, home: Home, devices: Devices
) -> None:
    enqueue(store, "command/1", "command/2")

    assert "not running, but 2 jobs" in report_of(launcher)["scheduler"]["told"]

    write_json(home.stop_record, {"schema": 1, "now": False, "at": 0.0})
    assert report_of(launcher)["queue"]["verdict"] == "warning"

    write_json(home.damage_record, {"schema": 1})
    assert report_of(launcher, code=3)["queue"]["verdict"] == "trouble"
    assert home.damage_record.exists()


def test_invalid_queue_folder_is_an_error(
    launcher: Launcher, devices: Devices, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", "queue")

    assert "LAUNCHER_HOME" in report_of(launcher, code=3)["queue folder"]["told"]

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "file"))
    report = report_of(launcher, code=3)
    assert "is not a folder" in report["queue folder"]["told"]
    assert report["queue"]["told"].endswith("the queue folder cannot be used (see 'queue folder')")


# --- what is looked at


def test_gpus_without_a_driver_are_read_from_the_kernel(tmp_path: Path) -> None:
    for name, vendor, kind in (
        ("0000:01:00.0", "0x10de", "0x030200"),
        ("0000:01:00.1", "0x10de", "0x040300"),  # its sound
        ("0000:02:00.0", "0x8086", "0x030000"),
    ):
        device = tmp_path / "sys/bus/pci/devices" / name
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")

    assert read_pci_gpus(tmp_path) == Driver(loaded=False, cards=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "__version__ = '2.15.0+cu132'\ncuda: Optional[str] = '13.2'\nhip: Optional[str] = None\n",
            Torch(version="2.15.0+cu132", cuda="13.2"),
        ),
        ("__version__ = '2.1.0'\ncuda = None\n", Torch(version="2.1.0")),
        (
            "__version__ = '2.1.0+rocm5'\ncuda = None\nhip = '5.6'\n",
            Torch(version="2.1.0+rocm5", other="AMD's GPUs (ROCm)"),
        ),
        ("this is no Python", Torch(version="(unknown version)")),
    ],
)
def test_torch_version_is_read_without_importing_it(
    tmp_path: Path, text: str, expected: Torch
) -> None:
    assert find_torch([str(tmp_path)]) == Torch()
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise RuntimeError('it was imported')\n")
    (tmp_path / "torch" / "version.py").write_text(text)

    assert find_torch([str(tmp_path)]) == expected


def test_slow_torch_test_is_stopped() -> None:
    found = try_torch(Torch(version="1"), patience_s=0.01)

    assert (found.works, "no answer in" in found.tried) == (False, True)


def test_filesystem_of_a_missing_folder_is_reported(tmp_path: Path) -> None:
    found = read_disk(tmp_path / "a" / "b", "")

    assert found.path == str(tmp_path / "a" / "b")
    assert found.writable
    assert found.total is not None
    assert found.free is not None
    assert 0 < found.free <= found.total


@pytest.mark.parametrize(
    ("files", "free", "status", "summary"),
    [
        (0, 11 << 20, "trouble", "no inodes free in /q, each file needs one (11 MiB free)"),
        (0, 50 << 30, "trouble", "no inodes free in /q, each file needs one (50 GiB free)"),
        (9, 50 << 30, "warning", "9 inodes free in /q, each file needs one (50 GiB free)"),
        (None, 11 << 20, "trouble", "11 MiB of 90 GiB free in /q"),
        (1 << 20, 50 << 30, "ok", "50 GiB of 90 GiB free in /q"),
    ],
)
def test_disk_without_inodes_is_not_taken_for_one_without_bytes(
    files: int | None, free: int, status: str, summary: str
) -> None:
    disk = FilesystemInfo("/q", "ext4", 90 << 30, free, files)
    found = judge_room(disk, (1 << 30, 10 << 30))
    assert (str(found.status), found.summary) == (status, summary)
    assert ("--inodes" in found.advice) == ("inodes" in summary)


def test_invalid_reservations_folder_is_an_error(tmp_path: Path, home: Home) -> None:
    environ = {"LAUNCHER_CLAIMS": str(tmp_path / "none")}

    folder, trouble, _ = find_reservations_folder(environ, home)

    assert (folder, "does not exist" in trouble) == (str(tmp_path / "none"), True)
    assert find_reservations_folder({"LAUNCHER_CLAIMS": "relative"}, home)[1]
    good = find_reservations_folder({"LAUNCHER_CLAIMS": str(tmp_path)}, home)
    assert good == (str(tmp_path), "", [])


def test_reservation_file_that_cannot_be_read_is_named(tmp_path: Path, home: Home) -> None:
    name = f"launcher-claims.{os.geteuid()}.0123abcd.json"
    (tmp_path / name).write_text('{"schema": 2, "gpus": ["GPU-1"]}')
    found = judge_reservations(*find_reservations_folder({"LAUNCHER_CLAIMS": str(tmp_path)}, home))
    assert found.status is CheckStatus.WARNING
    assert f"{name}: it is not a reservation file of this name" in found.summary


def test_clock_set_back_is_detected_from_the_events(home: Home, store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    store.job_control.hold([job], 4e9)
    store.job_control.release([job], 5.0)

    look = probe_database(home.database)

    assert look is not None
    assert look.newest_event_at == 4e9


def test_invalid_database_is_damaged_and_missing_database_is_unknown(home: Home) -> None:
    home.database.write_text("no database, but a text that is long enough" * 9)

    look = probe_database(home.database)
    _, queue = read_queue_health({"LAUNCHER_HOME": str(home.folder)}, "", 1000.0)

    assert look is not None
    assert look.is_damaged
    assert queue.probe == look
    assert probe_database(home.folder / "none.sqlite") is None


def test_recent_restarts_and_queue_of_another_machine_are_reported(
    home: Home, store: Store
) -> None:
    environ = {"LAUNCHER_HOME": str(home.folder)}
    write_json(home.restarts, {"schema": 1, "times": [1.0, 990.0, 995.0, "x"]})

    _, queue = read_queue_health(environ, "", 1000.0)
    write_json(home.record, {"schema": 1, "machine": "0" * 32, "host": "elsewhere"})
    _, foreign = read_queue_health(environ, "", 1000.0)

    assert (queue.restarts, queue.probe and queue.probe.waiting, queue.problem) == (2, 0, "")
    assert "another machine" in foreign.problem
    assert store.read.counts().get(State.QUEUED) is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, Logout()),
        ({"run/systemd/system/x": ""}, Logout(systemd=True)),
        (
            {
                "run/systemd/system/x": "",
                "etc/systemd/logind.conf": "[Login]\n#KillUserProcesses=yes\n",
            },
            Logout(systemd=True),
        ),
        (
            {
                "run/systemd/system/x": "",
                "etc/systemd/logind.conf": "[Login]\nKillUserProcesses=no\n",
                "etc/systemd/logind.conf.d/9.conf": "[Login]\nKillUserProcesses = yes\n",
            },
            Logout(systemd=True, kills=True),
        ),
        (
            {
                "run/systemd/system/x": "",
                "var/lib/systemd/linger/ada": "",
                "config/systemd/user/launcher.service": "",
                "usr/lib/systemd/logind.conf": "[Login]\nKillUserProcesses=no\n",
            },
            Logout(systemd=True, kills=False, lingers=True, service=True),
        ),
    ],
)
def test_effect_of_a_logout_is_read_from_systemd_files(
    tmp_path: Path, files: dict[str, str], expected: Logout
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert (
        read_logout_settings("ada", {"XDG_CONFIG_HOME": str(tmp_path / "config")}, tmp_path)
        == expected
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[status", "config.toml:1: not valid TOML"),
        ("[status]\nwach = 2", "config.toml:2: 'wach' is not an option of launcher status"),
        ("[statsu]\nwatch = 2", "config.toml:1: 'statsu' is not a table of the configuration"),
        ("hoem = '/x'", "config.toml:1: 'hoem' is not a key of the configuration"),
        ("hoem = '/x'\n[status]\nwach = 2\n", "'wach' is not an option"),
        ("[doctor]\ndeep = 3", "config.toml:2: doctor.deep: expected true or false"),
        ("[backends.slurm]\ncpu = 2", "config.toml:2: 'cpu' is not a key of [backends.slurm]"),
    ],
)
def test_broken_configuration_is_reported_as_a_finding(
    launcher: Launcher,
    devices: Devices,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    told: str,
) -> None:
    devices.add()
    file = tmp_path / "config.toml"
    file.write_text(f"{text}\n")
    monkeypatch.setenv("LAUNCHER_CONFIG", str(file))
    finding = report_of(launcher, code=3)["configuration"]
    assert finding["verdict"] == "trouble"
    assert told in finding["told"]
    assert "fix the file" in finding["advice"]
    file.write_text("")
    assert report_of(launcher)["configuration"]["told"] == str(file)


# --- What is found of backends, with stand-ins for Slurm's programs and for Ray's interpreter


LUSTRE = "22 1 0:1 / / rw - lustre nodes rw\n"  # of /proc/self/mountinfo


EXT4 = "22 1 0:1 / / rw - ext4 /dev/sda1 rw\n"


def backend_found(
    home: Home | None, tmp_path: Path, table: str, path: str = "/nowhere", mounts: str = LUSTRE
) -> Finding:
    file = tmp_path / "config.toml"
    file.write_text(table)
    environ = {"LAUNCHER_CONFIG": str(file), "PATH": path, "HOME": str(tmp_path)}
    ((name, finding),) = judge_backends(
        read_configured_backends(environ), environ, home, mounts
    ).items()
    assert finding is not None
    return finding._replace(name=name)


def a_program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def slurm_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sinfo: str) -> str:
    for name in SLURM:
        a_program(tmp_path / "bin", name, sinfo)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    return str(tmp_path / "bin")


def test_missing_slurm_programs_are_named(home: Home, tmp_path: Path) -> None:
    found = backend_found(home, tmp_path, "[backends.slurm]\ncpus = 2\n")
    assert found.name == "backend slurm"
    assert found.status is CheckStatus.TROUBLE
    assert found.summary == "not in PATH: sbatch, squeue, scancel, sinfo"
    assert "slurm-client" in found.advice


@pytest.mark.parametrize(
    ("sinfo", "keys", "verdict", "told", "advice"),
    [
        (
            "echo main; echo gpu; echo main",
            'folder = "/lustre/pilots"',
            *("ok", "Slurm answers, 2 partitions; files of pilots in /lustre/pilots (lustre)", ""),
        ),
        (
            "echo main; echo gpu",
            'partition = "gpu"\nfolder = "/lustre/pilots"',
            *("ok", "Slurm answers, partition gpu; files of pilots in /lustre/pilots (lustre)", ""),
        ),
        (
            "echo main; echo gpu",
            'partition = "gpus"',
            *(
                "trouble",
                "Slurm has no partition 'gpus'; its partitions: main, gpu",
                "[backends.slurm]",
            ),
        ),
        (
            "echo sinfo: error: no controller >&2; exit 1",
            "cpus = 2",
            *("trouble", "Slurm does not respond: sinfo: error: no controller", "`sinfo`"),
        ),
        (
            "exit 0",
            "cpus = 2",
            *("trouble", "Slurm does not respond: sinfo printed nothing", "SLURM_CONF"),
        ),
    ],
)
def test_slurm_partitions_are_queried(
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sinfo: str,
    keys: str,
    verdict: str,
    told: str,
    advice: str,
) -> None:
    path = slurm_of(tmp_path, monkeypatch, sinfo)
    found = backend_found(home, tmp_path, f"[backends.slurm]\n{keys}\n", path)
    assert (found.status, found.summary) == (verdict, told)
    assert advice in found.advice


def test_pilots_on_a_local_disk_cause_a_warning(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = slurm_of(tmp_path, monkeypatch, "echo main")
    table = '[backends.gpu]\nkind = "slurm"\nfolder = "/data/pilots"\n'
    found = backend_found(home, tmp_path, table, path, EXT4)
    assert found.status is CheckStatus.WARNING
    assert "; but /data/pilots is on a local disk (ext4)" in found.summary
    assert "`folder` in [backends.gpu]" in found.advice
    assert "(unknown type)" in backend_found(home, tmp_path, table, path, "").summary
    assert backend_found(None, tmp_path, table, path, EXT4).summary == "Slurm answers, 1 partition"


def test_unusable_pilots_cause_a_warning(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = slurm_of(tmp_path, monkeypatch, "echo main")
    reason = "the last 3 pilots of slurm failed: no module cuda"
    rows = [BackendRow("other", "slurm", reason="no", failures=1)]
    file = PilotsFile(home)
    file.write(rows, [], 0.0)
    assert (
        "pilots of slurm failed"
        not in backend_found(home, tmp_path, "[backends.slurm]\n", path).summary
    )
    file.write([*rows, BackendRow("slurm", "slurm", reason=reason, failures=3)], [], 10.0)
    found = backend_found(home, tmp_path, "[backends.slurm]\n", path)
    assert (found.status, found.summary) == (CheckStatus.WARNING, reason)
    assert "launcher status" in found.advice


def test_local_pilots_need_no_shared_folder(home: Home, tmp_path: Path) -> None:
    found = backend_found(home, tmp_path, "[backends.local]\n", mounts=EXT4)
    assert found == Finding(
        CheckStatus.OK, "pilots are processes of this machine", name="backend local"
    )


def test_ray_version_is_queried_from_the_interpreter(home: Home, tmp_path: Path) -> None:
    python = f"{tmp_path}/bin/python"
    table = f'[backends.ray]\npython = "{python}"\n'
    a_program(tmp_path / "bin", "python", "echo ray 2.60.0")
    well = backend_found(home, tmp_path, table)
    assert well.status is CheckStatus.OK
    assert well.summary.startswith(f"ray 2.60.0 in {python}; files of pilots in ")
    a_program(tmp_path / "bin", "python", "echo Traceback >&2; echo NotFound: ray >&2; exit 1")
    without = backend_found(home, tmp_path, table)
    assert without.status is CheckStatus.TROUBLE
    assert without.summary == f"{python} cannot import ray: NotFound: ray"
    assert install_command("ray", python=python) in without.advice
    a_program(tmp_path / "bin", "python", "exit 1")
    assert backend_found(home, tmp_path, table).summary == f"{python} cannot import ray: no output"


def test_interpreter_of_another_host_is_not_started(home: Home, tmp_path: Path) -> None:
    found = backend_found(home, tmp_path, '[backends.ray]\npython = "/cluster/python"\n')
    assert found.status is CheckStatus.UNKNOWN
    assert "`python` in [backends.ray]" in found.advice
