"""Pilots and their GPUs on a screen."""

import json
from pathlib import Path

import pytest

from launcher.frontends.screens.gpu_view import draw
from launcher.frontends.screens.job_view import JobView
from launcher.frontends.screens.pilot_gpus import (
    FIRST_BYTES,
    LAST_BYTES,
    pilot_gpu_views,
    read_pilot_gpus,
)
from launcher.frontends.screens.pilot_table import (
    _GLYPHS,
    _ON_THEIR_WAY,
    _UNRESPONSIVE,
    MOST,
    draw_pilots,
    pilots_record,
)
from launcher.frontends.screens.queue_view import snapshot_lines
from launcher.frontends.screens.snapshots import QueueSnapshot
from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec, make_pilot_folder
from launcher.queue.backends.pilot_messages import Heartbeat, Registered, encode_message
from launcher.queue.backends.pilot_records import PilotRecord, PilotRecords, new_token
from launcher.queue.backends.pilot_rules import PilotState
from launcher.queue.backends.pilot_status import (
    BackendRow,
    PilotRow,
    PilotStatus,
    read_pilot_status,
)
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.queue.store.rows import PILOT_PREFIX
from launcher.system.text_table import width_of
from tests.build import GIB, a_claim, a_gpu
from tests.screens import NOW, a_busy_screen, texts_of

SLURM = BackendRow(name="slurm", kind="slurm", pilots=4)


def a_pilot(stage: str = "running", **changes: object) -> PilotRow:
    values: dict[str, object] = {"backend": "slurm", "token": "launcher-1", "stage": stage}
    values |= {"since": NOW - 600, "cpus": 8, "gpus": 2}
    return PilotRow(**values | changes)  # type: ignore[arg-type]  # as the test says


def drawn(*pilots: PilotRow, backend: BackendRow = SLURM, at: float = NOW, width: int = 100) -> str:
    seen = PilotStatus(at=at, backends=(backend,), pilots=pilots)
    lines = draw_pilots(seen, NOW, width)
    assert all(width_of(line.text) <= width for line in lines)
    return "\n".join(line.text.rstrip() for line in lines)


def test_a_queue_without_pilots_has_no_section() -> None:
    assert draw_pilots(PilotStatus(), NOW, 80) == []


def test_running_pilots_are_in_a_table_and_waiting_ones_in_a_sentence() -> None:
    reason = "2 pilots wait in slurm: Resources, estimated 14:10"
    text = drawn(
        a_pilot(node="n1", attempts=3),
        a_pilot("waiting", reason="Resources"),
        a_pilot("waiting", reason="Resources"),
        backend=SLURM._replace(reason=reason),
    )
    assert text.splitlines() == [
        "PILOTS   STATE    NODE  CORES  GPUS  JOBS  TIME",
        "● slurm  running  n1        8     2     3  10 m",
        f"slurm: {reason}",
    ]


def test_silent_pilot_shows_its_silence_duration() -> None:
    text = drawn(a_pilot("silent", node="n1", heard_at=NOW - 95))
    assert "▲ slurm  silent" in text
    assert "silent for 1 m 35 s" in text


def test_pilot_that_fails_to_start_shows_its_last_log_lines() -> None:
    why = "the last 3 pilots of slurm failed: FAILED; the next one is tried in 1 min"
    text = drawn(
        backend=SLURM._replace(reason=why, failures=3, log="one\ntwo\nno module cuda\nbye")
    )
    assert text.splitlines() == [
        f"slurm: {why}",
        "       │ two",
        "       │ no module cuda",
        "       │ bye",
    ]


def test_outdated_pilot_status_is_marked() -> None:
    assert "as the scheduler saw them at" in drawn(a_pilot(), at=NOW - 3600)
    assert "as the scheduler saw them" not in drawn(a_pilot(), at=NOW - 6)


def test_only_the_first_pilots_are_listed() -> None:
    pilots = [a_pilot(node=f"n{number:02}") for number in range(MOST + 5)]
    assert drawn(*pilots).splitlines()[-1] == "and 5 more: 5 running"


def test_every_pilot_stage_has_a_symbol() -> None:
    assert {*_GLYPHS, *_ON_THEIR_WAY} == {life.value for life in PilotState}
    assert _GLYPHS.keys() > _UNRESPONSIVE


def test_unknown_pilot_stage_is_shown_unchanged() -> None:
    assert "hibernating" in drawn(a_pilot("hibernating", node="n1"))


def test_jobs_on_several_nodes_show_their_node() -> None:
    screen = a_busy_screen()
    first, *others = screen.running
    assert "NODE" not in _text(screen.running, screen)
    text = _text((first._replace(node="n3"), *others), screen)
    lines = [line for line in text.splitlines() if "cuda:0" in line or "cpu" in line]
    assert any(" n3 " in line for line in lines)
    assert any(" local " in line for line in lines)


def _text(running: tuple[JobView, ...], screen: QueueSnapshot) -> str:
    shown = screen._replace(running=running)
    return "\n".join(texts_of(snapshot_lines(shown, 140)))


def test_json_has_utc_times_and_null_for_unknown_values() -> None:
    backend = SLURM._replace(reason="all busy", failures=0)
    pilot = a_pilot("waiting", since=0.0, starts_at=60.0, attempts=3)
    record = pilots_record(PilotStatus(backends=(backend,), pilots=(pilot,)))
    assert json.dumps(record) == json.dumps(
        {
            "backends": [
                {
                    "name": "slurm",
                    "kind": "slurm",
                    "pilots": 4,
                    "reason": "all busy",
                    "failures": 0,
                    "log": None,
                }
            ],
            "pilots": [
                {
                    "token": "launcher-1",
                    "backend": "slurm",
                    "state": "waiting",
                    "node": None,
                    "job": None,
                    "reason": None,
                    "since": "1970-01-01T00:00:00Z",
                    "starts_at": "1970-01-01T00:01:00Z",
                    "cpus": 8,
                    "gpus": 2,
                    "jobs": 3,
                    "heard_at": None,
                    "log": None,
                }
            ],
        }
    )


@pytest.mark.parametrize("at", [1e300, -5.0, 1e15])
def test_invalid_engine_estimate_breaks_no_screen(home: Home, at: float) -> None:
    row = {"backend": "a\x1b[31m", "token": "launcher-1", "stage": "waiting", "starts_at": at}
    record = {"schema": 1, "at": NOW, "backends": [], "pilots": [row, {"backend": 7}, "x"]}
    home.folder.mkdir(parents=True, exist_ok=True)
    (home.folder / "pilots.json").write_text(json.dumps(record))
    seen = read_pilot_status(home)
    assert len(seen.pilots) == 1
    assert "\x1b" not in seen.pilots[0].backend
    assert pilots_record(seen)["pilots"][0]["starts_at"] is None  # type: ignore[index,call-overload]
    draw_pilots(seen, NOW, 60)


def test_unclear_pilot_stage_is_explained() -> None:
    stranded = a_pilot("stranded", node="n4", heard_at=NOW - 300, reason="NODE_FAIL")
    text = drawn(stranded, width=140)
    assert "ended, but its node does not respond; silent for 5 m; NODE_FAIL" in text
    assert "its engine has no record of it" in drawn(a_pilot("missing", node="n4"))


# --- The GPUs of pilots, with our jobs on them, as reported by their latest heartbeats


def a_hello(*gpus: GpuSnapshot) -> bytes:
    return encode_message(
        Registered(version="1", python="/p", host="n3", pid=7, boot="b", cpus=4, ram=GIB, gpus=gpus)
    )


@pytest.fixture
def pilot(home: Home, tmp_path: Path) -> PilotFolder:
    token = new_token()
    spec = PilotSpec(token=token, backend="slurm", version="1", cpus=4, gpus=1)
    folder = PilotFolder(tmp_path / "shared" / token)
    make_pilot_folder(folder, spec)
    settings = BackendSettings(name="slurm", kind="slurm")
    home.folder.mkdir(parents=True, exist_ok=True)
    PilotRecords(home).write(
        PilotRecord(folder=folder.folder, spec=spec, settings=settings, since=1.0)
    )
    return folder


def pilots(folder: PilotFolder, gpus: int = 1) -> PilotStatus:
    row = PilotRow(backend="slurm", token=folder.token, stage="running", node="n3", gpus=gpus)
    return PilotStatus(at=1.0, pilots=(row,))


def a_card(used: float) -> GpuSnapshot:
    return a_gpu(0, used=used, processes=None)


def test_newest_heartbeat_has_the_usage_of_each_job(home: Home, pilot: PilotFolder) -> None:
    card = a_card(9)
    beat = Heartbeat(number=4, gpus=(card,), used={"63-2": {card.uuid: 8 * GIB}})
    later = Heartbeat(number=5)  # without GPUs: nothing has changed there
    pilot.messages_file.write_bytes(
        a_hello(a_card(1)) + encode_message(beat) + encode_message(later)
    )
    boot = f"{PILOT_PREFIX}{pilot.token}"
    claim = a_claim(job=63, number=2, boot=boot, device=card.uuid, vram=10 * GIB)
    other = a_claim(
        job=64, device=card.uuid
    )  # a job on a card of this machine that has the same name

    (gauge,) = pilot_gpu_views(home, pilots(pilot), [claim, other])

    assert (gauge.node, gauge.gpu.used) == ("n3", 9 * GIB)
    assert [(guest.job, gauge.used_by(guest)) for guest in gauge.jobs] == [(63, 8 * GIB)]
    assert gauge.to_json()["node"] == "n3"
    assert gauge.columns()[-1] == "n3"
    text = "\n".join(texts_of(draw([gauge], 100)))
    assert "n3 cuda:0" in text
    assert "uses 8 GiB, 10 GiB reserved" in text
    assert "does not report" not in text, "of a node nobody expects to see processes"


def test_pilot_with_only_a_hello_message_shows_its_gpus(home: Home, pilot: PilotFolder) -> None:
    pilot.messages_file.write_bytes(a_hello(a_card(1)))
    (gauge,) = pilot_gpu_views(home, pilots(pilot), [])
    assert gauge.gpu.used == GIB


def test_only_the_ends_of_a_long_file_are_read(pilot: PilotFolder) -> None:
    old = encode_message(Heartbeat(number=1, gpus=(a_card(2),)))
    number = (FIRST_BYTES + LAST_BYTES) // len(old) + 10
    newest = encode_message(Heartbeat(number=9, gpus=(a_card(5),)))
    pilot.messages_file.write_bytes(a_hello(a_card(1)) + old * number + newest + b'{"say": "be')
    assert [gpu.used for gpu in read_pilot_gpus(pilot).gpus] == [5 * GIB]


def test_pilots_without_gpus_are_not_read(home: Home, pilot: PilotFolder) -> None:
    pilot.messages_file.unlink()
    assert pilot_gpu_views(home, pilots(pilot, gpus=0), []) == []
    assert pilot_gpu_views(home, pilots(pilot), []) == [], "a file that cannot be read now"
