"""The records of pilots: what was written is read again, and what is none harms nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.backends.channel import PilotSpec
from launcher.backends.pilot_records import (
    PilotRecord,
    PilotRecords,
    is_token,
    new_token,
)
from launcher.backends.settings import BackendSettings
from launcher.system.paths import Home


def a_record(token: str = "", **changes: Any) -> PilotRecord:
    token = token or new_token()
    spec = PilotSpec(token=token, backend="lab", version="1", cpus=2, paths=("/data", "/venv"))
    lab = BackendSettings(
        name="lab",
        kind="slurm",
        gpus=2,
        options=("--nice=1",),
        wrap=("apptainer",),
        folder=Path("/shared"),
        paths={"/local": "/shared"},
        resources={"worker": 1.0},
    )
    record = PilotRecord(folder=Path("/shared") / token, spec=spec, settings=lab, since=1.5)
    return record._replace(**changes)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_a_record_is_read_as_it_was_written(home: Home) -> None:
    records = PilotRecords(home)
    first = a_record()
    second = a_record(cancelled="stopped", given_up="node failed", buried=True, since=2)
    for record in (first, second):
        records.write(record)
    assert sorted(records.read(), key=lambda record: record.since) == [first, second]
    records.write(first._replace(cancelled="changed"))
    records.delete(second.token)
    records.delete(second.token)
    assert [record.cancelled for record in PilotRecords(home).read()] == ["changed"]


def test_a_home_without_pilots_has_no_records(home: Home) -> None:
    assert not list(PilotRecords(home).read())


def _without_spec(record: dict[str, Any]) -> None:
    del record["spec"]


def _relative(record: dict[str, Any]) -> None:
    record["folder"] = "pilots"


def _foreign(record: dict[str, Any]) -> None:
    record["folder"] = "/shared/launcher-00000000000000000000"


def _newer(record: dict[str, Any]) -> None:
    record["schema"] = 2


def _never_beats(record: dict[str, Any]) -> None:
    record["spec"]["beat_s"] = float("nan")


def _negative_lease(record: dict[str, Any]) -> None:
    record["spec"]["lease_s"] = -1


def _unknown_kind(record: dict[str, Any]) -> None:
    record["settings"]["kind"] = "pbs"


@pytest.mark.parametrize(
    "damage",
    [_without_spec, _relative, _foreign, _newer, _never_beats, _negative_lease, _unknown_kind],
)
def test_a_record_that_is_none_is_left_alone_and_the_log_tells(
    home: Home, damage: Callable[[dict[str, Any]], None], caplog: pytest.LogCaptureFixture
) -> None:
    records, sound = PilotRecords(home), a_record()
    records.write(sound)
    records.write(damaged := a_record())
    path = home.folder / "pilots" / f"{damaged.token}.json"
    stored = json.loads(path.read_text())
    damage(stored)
    path.write_text(json.dumps(stored))
    assert [record.token for record in records.read()] == [sound.token]
    assert damaged.token in caplog.text
    assert path.exists()


@given(junk=st.binary(max_size=60))
def test_junk_is_no_record(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    home = Home(tmp_path_factory.mktemp("home"))
    (home.folder / "pilots").mkdir()
    (home.folder / "pilots" / f"{new_token()}.json").write_bytes(junk)
    (home.folder / "pilots" / "owner.json").write_bytes(junk)
    (home.folder / "pilots" / "launcher-x.json").write_bytes(junk)
    assert not list(PilotRecords(home).read())


def test_what_a_newer_launcher_added_to_settings_is_ignored(home: Home) -> None:
    records, record = PilotRecords(home), a_record()
    records.write(record)
    path = home.folder / "pilots" / f"{record.token}.json"
    stored = json.loads(path.read_text())
    stored["settings"]["colour"] = "blue"
    path.write_text(json.dumps(stored))
    assert list(records.read()) == [record]


def test_tokens_are_names_that_nobody_guesses() -> None:
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(map(is_token, tokens))
    assert not is_token("launcher-1")
