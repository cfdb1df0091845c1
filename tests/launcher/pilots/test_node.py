"""A pilot's node: facts, GPUs, home and news."""

import json
import os
import resource
import zipfile
from pathlib import Path

import pytest

from launcher import __version__
from launcher.queue.backends import node_facts
from launcher.queue.backends.channel import MessageReader
from launcher.queue.backends.node_gpus import WrongGpus, resolve_visible_gpus
from launcher.queue.backends.node_home import (
    PREFIX,
    STALE_S,
    make_node_home,
    remove_node_home,
    unpack_code,
)
from launcher.queue.backends.outbox import RETRY_S, Outbox
from launcher.queue.backends.pilot_folder import PilotFolder
from launcher.queue.backends.pilot_messages import (
    AttemptFinished,
    AttemptStarted,
    Deregistered,
    Heartbeat,
    PilotMessage,
    Registered,
    decode_message,
)
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import Done, Failed
from launcher.system import memory
from launcher.system.locks import mark_in_use
from tests.build import GIB, a_context, a_gpu, a_spec, said_by, shell, until
from tests.launcher.pilots.conftest import MakeDesk
from tests.launcher.pilots.desk import Desk, a_pilot
from tests.nvml.standin import TAKE, Devices

AT_ONCE = "from launcher.queue.backends import node_facts; node_facts.PATHS_TIMEOUT_S = 0.0"


def refused(desk: Desk) -> str:
    """Return why a pilot cannot serve; it has left."""
    (trouble,) = desk.hello().troubles
    assert desk.bye() == trouble
    assert desk.exit_code() == 3
    assert trouble in desk.log
    return trouble


def test_path_that_the_node_does_not_see_is_named(desk_of: MakeDesk, tmp_path: Path) -> None:
    there, missing = tmp_path, tmp_path / "data"
    desk = desk_of(a_pilot(paths=(str(there), str(missing)))).start(code=AT_ONCE)
    assert refused(desk).endswith(f"does not see {missing}")


def test_path_that_appears_later_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = tmp_path / "data"
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            late.touch()

    assert node_facts._find_invisible_paths([str(late)], sleep=nap) == []
    assert len(naps) == 3


def test_pilot_of_another_version_reports_its_version(desk_of: MakeDesk) -> None:
    trouble = refused(desk_of(a_pilot(version="0.0.1")).start())
    assert f"has launcher {__version__}, but the queue runs 0.0.1" in trouble
    assert "[backends.local]" in trouble


def test_pilot_in_the_folder_of_another_one_reports_it(desk_of: MakeDesk, tmp_path: Path) -> None:
    desk = desk_of(a_pilot())
    token = desk.folder.token
    desk.folder.folder.rename(tmp_path / "moved")
    desk.folder = type(desk.folder)(tmp_path / "moved")
    assert f"belongs to another pilot, {token}" in refused(desk.start())


@pytest.mark.parametrize("text", ["", "{", '{"schema": 2}', "[]", "[" * 5000])
def test_unreadable_spec_is_logged(desk_of: MakeDesk, text: str) -> None:
    desk = desk_of()
    desk.folder.spec.write_text(text)
    desk.start()
    assert desk.exit_code() == 3
    assert "cannot serve: its spec" in desk.log
    assert desk.read() == []


def test_pilot_restarted_by_its_backend_runs_once(desk_of: MakeDesk) -> None:
    desk = desk_of(a_pilot(idle_s=0.05)).start()
    desk.bye()
    first = desk.process
    news = len(desk.read())
    desk.start()
    assert desk.exit_code() == 3
    assert first is not desk.process
    assert len(desk.read()) == news
    assert [type(item) for item in (desk.news[0], desk.news[-1])] == [Registered, Deregistered]


@pytest.mark.parametrize(
    ("environment", "time_s", "until", "limited"),
    [
        ({}, None, None, False),
        ({}, 60.0, 1060.0, False),
        ({"SLURM_JOB_END_TIME": "5000"}, 60.0, 5000.0, False),
        ({"SLURM_JOB_END_TIME": "Unknown"}, 60.0, 1060.0, False),
        ({"SLURM_JOB_END_TIME": "9" * 400}, None, None, False),
        ({"SLURM_JOB_ID": "7"}, None, None, True),
        ({"SLURM_JOB_ID": "7"}, 60.0, 1060.0, False),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "5000"}, None, 5000.0, False),
    ],
)
def test_end_of_an_allocation_comes_from_backend_or_wall_time_or_is_unknown(
    desk_of: MakeDesk,
    environment: dict[str, str],
    time_s: float | None,
    until: float | None,
    limited: bool,
) -> None:
    spec = a_pilot(time_s=time_s)
    hello = node_facts.read_node_facts(desk_of(spec).folder, spec, environment, 1000.0).registration
    assert (hello.until, hello.limited) == (until, limited)


def test_pilot_uses_no_more_memory_than_it_was_allocated(desk_of: MakeDesk) -> None:
    for given, ram in (
        (1 << 20, 1 << 20),
        (None, memory.usable_bytes()),
        (1 << 60, memory.usable_bytes()),
    ):
        spec = a_pilot(memory=given)
        facts = node_facts.read_node_facts(
            desk_of(spec).folder, spec, {"SLURMD_NODENAME": "n7"}, 0.0
        )
        assert (facts.registration.ram, facts.registration.node) == (ram, "n7")


def test_spec_of_a_newer_version_is_refused_by_its_version(
    desk_of: MakeDesk,
) -> None:
    desk = desk_of()
    record = json.loads(desk.folder.spec.read_text())
    desk.folder.spec.write_text(json.dumps({**record, "version": "9.0", "colour": "blue"}))
    assert "the queue runs 9.0" in refused(desk.start())


# --- node gpus


CARDS = (a_gpu(0, uuid="GPU-aa11"), a_gpu(1, uuid="GPU-aa22"), a_gpu(2, uuid="GPU-bb33"))
DIVIDED = (*CARDS, a_gpu(3, uuid="MIG-cc44", mig=0), a_gpu(3, uuid="MIG-cc55", mig=1))


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        ("2", ["GPU-bb33"]),
        ("2,0", ["GPU-bb33", "GPU-aa11"]),
        (" 1 , 2 ", ["GPU-aa22", "GPU-bb33"]),
        ("1,1", ["GPU-aa22"]),
        ("GPU-bb33", ["GPU-bb33"]),
        ("GPU-b", ["GPU-bb33"]),
        ("MIG-cc55", ["MIG-cc55"]),
        ("3", ["MIG-cc44"]),
        ("0,-1,2", ["GPU-aa11"]),
        ("", []),
        ("NoDevFiles", []),
        (None, []),
    ],
)
def test_gpus_of_an_allocation_are_those_that_its_backend_names(
    visible: str | None, indices: list[str]
) -> None:
    assert [gpu.uuid for gpu in resolve_visible_gpus(visible, DIVIDED)] == indices


@pytest.mark.parametrize("visible", ["7", "GPU-aa", "GPU-nothing", "0,,1", "all", "²"])
def test_unknown_gpu_name_is_refused_with_those_of_the_driver(
    visible: str,
) -> None:
    with pytest.raises(WrongGpus, match=r"the driver lists 0 \(GPU-aa11\), 1 \(GPU-aa22\)"):
        resolve_visible_gpus(visible, CARDS)


def test_two_jobs_share_a_gpu_of_an_allocation_and_see_no_other(
    desk_of: MakeDesk, gpus: Devices
) -> None:
    gpus.add()
    second = gpus.add()
    desk = desk_of(a_pilot(gpus=1)).start({**gpus.environment, "CUDA_VISIBLE_DEVICES": "1"})
    assert [gpu.uuid for gpu in desk.hello().gpus] == [second]
    spec = a_spec(*shell('echo "$CUDA_VISIBLE_DEVICES"'))
    attempts = [desk.run(spec=spec, job=job, device=second) for job in (1, 2)]
    for job, attempt in enumerate(attempts, 1):
        assert isinstance(desk.outcome(job), Done)
        assert said_by(attempt) == f"{second}\n"
    desk.leave()


def test_heartbeats_report_the_memory_of_each_attempt(desk_of: MakeDesk, gpus: Devices) -> None:
    uuid = gpus.add()
    pilot = a_pilot(gpus=1, beat_s=600.0)  # changes are sent at once
    desk = desk_of(pilot).start({**gpus.environment, "CUDA_VISIBLE_DEVICES": uuid})
    desk.hello()
    context = a_context(environment={"PATH": "/usr/bin:/bin", **gpus.environment})
    take = shell(TAKE + "while :; do sleep 60 & wait; done", str(3 * GIB))
    desk.run(spec=a_spec(*take), context=context, device=uuid)
    until(
        lambda: any(
            beat.used.get("1-1", {}).get(uuid) == 3 * GIB for beat in desk.of_kind(Heartbeat)
        ),
        "a beat tells of its memory",
    )
    (gpu,) = desk.of_kind(Heartbeat)[-1].gpus
    assert gpu.used is not None
    assert gpu.used >= 3 * GIB


@pytest.mark.parametrize("visible", ["", None], ids=["empty", "not set"])
def test_pilot_without_a_requested_gpu_reports_it_and_exits(
    desk_of: MakeDesk, gpus: Devices, visible: str | None
) -> None:
    gpus.add()
    begin = "" if visible is not None else "import os; os.environ.pop('CUDA_VISIBLE_DEVICES', 0)"
    more = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    desk = desk_of(a_pilot(gpus=1)).start({**gpus.environment, **more}, begin)
    assert "1 GPU requested, none received: CUDA_VISIBLE_DEVICES is" in refused(desk)


# --- node home


LABORATORY = """
from pathlib import Path
def run(job):
    return {"data": (Path(__file__).parent / "data.txt").read_text()}
"""


TRAVELLING = a_spec(argv=(), entry="travelling.work:run", kind="toy")


def an_archive(folder: Path, text: str) -> Path:
    archive = folder / "code" / "0123456789abcdef.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("travelling/__init__.py", "")
        file.writestr("travelling/work.py", LABORATORY)
        file.writestr("travelling/data.txt", text)
    return archive


def test_plugin_code_is_sent_as_an_archive_with_its_data(desk_of: MakeDesk, tmp_path: Path) -> None:
    archive = an_archive(tmp_path, "forty-two")
    desk = desk_of().start()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{archive}{os.pathsep}/nowhere"}
    desk.run(spec=TRAVELLING, context=a_context(environment=environment))
    outcome = desk.outcome()
    assert isinstance(outcome, Done), outcome
    assert outcome.result == {"data": "forty-two"}


def test_archive_is_unpacked_once_and_other_entries_stay(tmp_path: Path) -> None:
    archive = an_archive(tmp_path, "a")
    home = Home(tmp_path / "disk")
    path = unpack_code(f"/one{os.pathsep}{archive}", home)
    first, folder = path.split(os.pathsep)
    assert first == "/one"
    (Path(folder) / "mark").touch()
    assert unpack_code(str(archive), home) == folder
    assert (Path(folder) / "mark").exists()
    assert unpack_code("", home) == ""


def test_missing_or_invalid_archive_is_refused(tmp_path: Path) -> None:
    bad, disk = tmp_path / "bad.zip", Home(tmp_path / "disk")
    with pytest.raises(FileNotFoundError, match=r"bad\.zip"):
        unpack_code(str(bad), disk)
    bad.write_bytes(b"no archive")
    with pytest.raises(zipfile.BadZipFile):
        unpack_code(str(bad), disk)


def test_leftovers_of_killed_pilots_on_a_node_are_deleted_unless_in_use(tmp_path: Path) -> None:
    old, used, young = (tmp_path / f"{PREFIX}{name}" for name in ("old", "used", "young"))
    for folder in (old, used, young):
        folder.mkdir()
    long_ago = young.stat().st_mtime - 2 * STALE_S
    for folder in (old, used):
        os.utime(folder, (long_ago, long_ago))
    held = mark_in_use(used)
    home = make_node_home(PilotFolder(tmp_path / "pilot"), tmp_path)
    assert [folder.exists() for folder in (old, used, young)] == [False, True, True]
    remove_node_home(home)
    assert not home.folder.exists()
    assert held is not None
    os.close(held)


def test_pilot_leaves_nothing_on_its_node(desk_of: MakeDesk, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    desk = desk_of().start({"TMPDIR": str(scratch)})
    desk.run(spec=a_spec("true"))
    desk.ended()
    assert len([*scratch.iterdir()]) == 1
    desk.leave()
    desk.exit_code()
    assert [*scratch.iterdir()] == []
    mark = f"LAUNCHER_PILOT={desk.folder.token}".encode()
    until(lambda: not _marked(mark), "its fork servers and supervisors have left")


def test_interpreter_missing_on_the_node_fails_the_job_by_name(desk_of: MakeDesk) -> None:
    desk = desk_of().start()
    desk.run(spec=TRAVELLING, context=a_context(interpreter="/nowhere/python"))
    outcome = desk.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.error == "cannot run /nowhere/python: No such file or directory"


def _marked(mark: bytes) -> list[str]:
    marked = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                marked.append(entry.name)
        except OSError:
            continue
    return marked


# --- node news


FILLED = 100_000  # bytes that are there before the pilot comes


def read(file: Path) -> list[PilotMessage]:
    return [
        news for line in MessageReader(file).lines() if (news := decode_message(line)) is not None
    ]


def test_only_the_newest_waiting_heartbeat_is_written(tmp_path: Path) -> None:
    file = tmp_path / "from"
    outbox = Outbox(file)  # the file is not there
    outbox.add([Heartbeat(number=1), AttemptStarted(attempt="1-1")])
    outbox.send(0.0)
    assert outbox.error
    outbox.add([AttemptFinished(attempt="1-1"), Heartbeat(number=2)])
    outbox.send(RETRY_S / 2)  # not tried again so soon
    file.touch()
    outbox.send(RETRY_S / 2)
    assert read(file) == []
    outbox.send(RETRY_S)
    assert read(file) == [
        AttemptStarted(attempt="1-1"),
        AttemptFinished(attempt="1-1"),
        Heartbeat(number=2),
    ]
    assert not outbox
    assert not outbox.error


def test_messages_wait_for_space_on_a_full_disk_and_no_end_is_lost(desk_of: MakeDesk) -> None:
    jobs = range(1, 9)
    desk = desk_of(a_pilot(beat_s=600.0))
    desk.folder.messages_file.write_bytes(b"\n" * FILLED)
    full = FILLED + 700  # there is room for the hello, and for a part of the first end
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({full}, -1))"
    desk.start(code=limit)
    desk.hello()
    for job in jobs:
        desk.run(spec=a_spec("true"), job=job)
    until(lambda: "messages cannot be written" in desk.log, "there is no room")
    resource.prlimit(desk.pid, resource.RLIMIT_FSIZE, (-1, -1))
    for job in jobs:
        assert isinstance(desk.outcome(job), Done)
    assert len(desk.of_kind(Registered)) == 1
