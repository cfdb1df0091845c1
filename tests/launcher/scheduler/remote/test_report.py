"""pilots.json: written when something changed, and read whatever lies there."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.backends.pilots_file import (
    BackendRow,
    PilotRow,
    Pilots,
    PilotsFile,
    seen_pilots,
)
from launcher.system.paths import Home

PILOT = PilotRow(
    backend="lab", token="launcher-1", stage="running", node="n1", heard_at=50.0, attempts=2
)
BACKEND = BackendRow(name="lab", kind="slurm", reason="all busy", pilots=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["schema", "at", "backends", "pilots", "backend", "token", "stage"]),
            inner,
        )
    ),
    max_leaves=12,
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert seen_pilots(home) == Pilots()
    PilotsFile(home).write([BACKEND], [PILOT], 1.0, 60.0)
    assert seen_pilots(home) == Pilots(at=60.0, backends=(BACKEND,), pilots=(PILOT,))
    assert PILOT.silent_s(60.0) == 10.0
    assert PILOT.silent_s(40.0) == 0.0


def test_it_is_written_again_when_something_has_changed(tmp_path: Path) -> None:
    home, file = Home(tmp_path), PilotsFile(Home(tmp_path))
    path = tmp_path / "pilots.json"
    file.write([], [], 0.0, 1.0)
    assert not path.exists()
    file.write([BACKEND], [], 1.0, 1.0)
    assert not file.due(1.5)
    assert file.due(2.5)
    first = path.stat().st_ino
    file.write([BACKEND], [], 3.0, 3.0)
    assert path.stat().st_ino == first
    file.write([BACKEND], [PILOT], 4.0, 4.0)
    assert seen_pilots(home).pilots == (PILOT,)
    file.write([], [], 5.0, 5.0)
    assert seen_pilots(home) == Pilots(at=5.0)


@given(record=st.dictionaries(st.sampled_from(["at", "backends", "pilots"]), JSON))
def test_nothing_that_lies_there_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, record: dict[str, object]
) -> None:
    home = Home(tmp_path_factory.mktemp("home"))
    (home.folder / "pilots.json").write_text(json.dumps({"schema": 1, **record}))
    report = seen_pilots(home)
    for row in report.pilots:
        silent_s = row.silent_s(1.0)
        assert silent_s is None or silent_s >= 0


@pytest.mark.parametrize(
    "row",
    [
        {"backend": "lab"},
        {"backend": "lab", "token": 3, "stage": "running"},
        {"backend": "lab", "token": "t", "stage": "running", "heard_at": float("nan")},
        {"backend": "lab", "token": "t", "stage": "running", "attempts": "many"},
        "row",
    ],
)
def test_a_row_that_is_none_is_left_out(tmp_path: Path, row: object) -> None:
    sound = {"backend": "lab", "token": "t", "stage": "waiting", "new": 1}
    (tmp_path / "pilots.json").write_text(json.dumps({"schema": 1, "pilots": [row, sound]}))
    report = seen_pilots(Home(tmp_path))
    assert [pilot.token for pilot in report.pilots] == ["t"]
    assert report.pilots[0].stage == "waiting"
