"""The GPUs of pilots, with our jobs on them, as their newest beats tell."""

from pathlib import Path

import pytest

from launcher.backends.channel import (
    Beat,
    Hello,
    PilotFolder,
    PilotSpec,
    make_pilot_folder,
    news_line,
)
from launcher.backends.pilot_records import PilotRecord, PilotRecords, new_token
from launcher.backends.pilots_file import PilotRow, Pilots
from launcher.backends.settings import BackendSettings
from launcher.gpu.snapshot import GpuSnapshot
from launcher.screens.gpu_view import draw
from launcher.screens.pilots import FIRST_BYTES, LAST_BYTES, pilot_gauges, seen_gpus
from launcher.store.rows import PILOT
from launcher.system.paths import Home
from tests.build import GIB, a_claim, a_gpu


def a_hello(*gpus: GpuSnapshot) -> bytes:
    return news_line(
        Hello(version="1", python="/p", host="n3", pid=7, boot="b", cpus=4, ram=GIB, gpus=gpus)
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


def pilots(folder: PilotFolder, gpus: int = 1) -> Pilots:
    row = PilotRow(backend="slurm", token=folder.token, stage="running", node="n3", gpus=gpus)
    return Pilots(at=1.0, pilots=(row,))


def a_card(used: float) -> GpuSnapshot:
    return a_gpu(0, used=used, processes=None)


def test_the_newest_beat_tells_what_a_job_uses_there(home: Home, pilot: PilotFolder) -> None:
    card = a_card(9)
    beat = Beat(number=4, gpus=(card,), used={"63-2": {card.uuid: 8 * GIB}})
    later = Beat(number=5)  # without GPUs: nothing has changed there
    pilot.news.write_bytes(a_hello(a_card(1)) + news_line(beat) + news_line(later))
    boot = f"{PILOT}{pilot.token}"
    claim = a_claim(job=63, number=2, boot=boot, device=card.uuid, reservation=10 * GIB)
    other = a_claim(job=64, device=card.uuid)  # of a card of this machine that has the same name

    (gauge,) = pilot_gauges(home, pilots(pilot), [claim, other])

    assert (gauge.node, gauge.gpu.used) == ("n3", 9 * GIB)
    assert [(guest.job, gauge.used_by(guest)) for guest in gauge.guests] == [(63, 8 * GIB)]
    assert gauge.record()["node"] == "n3"
    assert gauge.columns()[-1] == "n3"
    text = "\n".join(line.text for line in draw([gauge], 100))
    assert "n3 cuda:0" in text
    assert "uses 8 GiB, 10 GiB promised" in text
    assert "not told" not in text, "of a node nobody expects to see processes"


def test_a_pilot_that_has_only_said_hello_shows_its_cards(home: Home, pilot: PilotFolder) -> None:
    pilot.news.write_bytes(a_hello(a_card(1)))
    (gauge,) = pilot_gauges(home, pilots(pilot), [])
    assert gauge.gpu.used == GIB


def test_of_a_long_file_only_its_ends_are_read(pilot: PilotFolder) -> None:
    old = news_line(Beat(number=1, gpus=(a_card(2),)))
    number = (FIRST_BYTES + LAST_BYTES) // len(old) + 10
    newest = news_line(Beat(number=9, gpus=(a_card(5),)))
    pilot.news.write_bytes(a_hello(a_card(1)) + old * number + newest + b'{"say": "be')
    assert [gpu.used for gpu in seen_gpus(pilot).gpus] == [5 * GIB]


def test_pilots_without_gpus_are_not_read(home: Home, pilot: PilotFolder) -> None:
    pilot.news.unlink()
    assert pilot_gauges(home, pilots(pilot, gpus=0), []) == []
    assert pilot_gauges(home, pilots(pilot), []) == [], "a file that cannot be read now"
