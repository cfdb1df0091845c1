"""The files of pilots on disk: folders, records, nodes, pilots.json."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec, make_pilot_folder
from launcher.queue.backends.pilot_records import (
    FolderTaken,
    PilotRecord,
    PilotRecords,
    acquire_folder,
    backend_folder,
    delete_pilot_folder,
    delete_unrecorded_folders,
    is_token,
    new_token,
)
from launcher.queue.backends.pilot_status import (
    BackendRow,
    NodesFile,
    PilotRow,
    PilotsFile,
    PilotStatus,
    read_past_pilots,
    read_pilot_status,
)
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.home.paths import Home

# --- the records of pilots: written records are read again, and invalid ones are ignored


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


def changed(home: Home, record: PilotRecord, part: str, key: str, value: object) -> Path:
    """Rewrite a record with another value of a key or without the key, and return its file."""
    path = home.folder / "pilots" / f"{record.token}.json"
    stored = json.loads(path.read_text())
    there = stored[part] if part else stored
    there[key] = value
    if value is None:
        del there[key]
    path.write_text(json.dumps(stored))
    return path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_record_survives_a_round_trip(home: Home) -> None:
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


def test_home_without_pilots_has_no_records(home: Home) -> None:
    assert not list(PilotRecords(home).read())


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("", "spec", None),
        ("", "folder", "pilots"),
        ("", "folder", "/shared/launcher-00000000000000000000"),
        ("", "schema", 2),
        ("spec", "beat_s", float("nan")),
        ("spec", "lease_s", -1),
        ("settings", "kind", "pbs"),
    ],
)
def test_invalid_record_is_kept_and_logged(
    home: Home, part: str, key: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    records, sound = PilotRecords(home), a_record()
    records.write(sound)
    records.write(damaged := a_record())
    path = changed(home, damaged, part, key, value)
    assert [record.token for record in records.read()] == [sound.token]
    assert damaged.token in caplog.text
    assert path.exists()


@given(junk=st.binary(max_size=60))
def test_junk_is_not_a_record(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    home = Home(tmp_path_factory.mktemp("home"))
    (home.folder / "pilots").mkdir()
    (home.folder / "pilots" / f"{new_token()}.json").write_bytes(junk)
    (home.folder / "pilots" / "owner.json").write_bytes(junk)
    (home.folder / "pilots" / "launcher-x.json").write_bytes(junk)
    assert not list(PilotRecords(home).read())


@pytest.mark.parametrize("part", ["", "spec", "settings"])
def test_fields_added_by_another_version_are_ignored(home: Home, part: str) -> None:
    records, record = PilotRecords(home), a_record()
    records.write(record)
    changed(home, record, part, "colour", "blue")
    assert list(records.read()) == [record]


def test_tokens_are_unpredictable_names() -> None:
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(map(is_token, tokens))
    assert not is_token("launcher-1")


# --- where pilots' folders lie, and that they are one queue's


LOCAL = "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
NETWORK = "2 1 0:40 / /home rw - nfs4 server:/home rw\n"


def settings(kind: str = "slurm", folder: Path | None = None) -> BackendSettings:
    return BackendSettings(name="lab", kind=kind, folder=folder)


def test_pilot_folders_are_placed_where_the_nodes_see_them() -> None:
    user = Path("/home/ann")
    here, there = Home(Path("/var/tmp/launcher-1")), Home(Path("/home/ann/queue"))
    own = here.folder / "pilots"
    assert backend_folder(settings(), here, user, LOCAL) == own
    assert backend_folder(settings(), here, user, LOCAL + NETWORK).is_relative_to(user)
    assert backend_folder(settings("local"), here, user, LOCAL + NETWORK) == own
    assert backend_folder(settings(), there, user, LOCAL + NETWORK) == there.folder / "pilots"
    chosen = Path("/scratch/pilots")
    assert backend_folder(settings(folder=chosen), here, user, LOCAL + NETWORK) == chosen


def test_two_homes_have_two_folders_in_one_home_directory() -> None:
    user = Path("/home/ann")
    folders = {
        backend_folder(settings(), Home(Path(f"/var/tmp/{name}")), user, LOCAL + NETWORK)
        for name in ("a", "b")
    }
    assert len(folders) == 2


def test_folder_stays_with_its_queue(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "pilots"
    acquire_folder(folder, Home(tmp_path / "first"))
    acquire_folder(folder, Home(tmp_path / "first"))
    with pytest.raises(FolderTaken, match="first on host"):
        acquire_folder(folder, Home(tmp_path / "second"))


def test_folder_of_another_host_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    acquire_folder(tmp_path, home)
    owner = json.loads((tmp_path / "owner.json").read_text())
    (tmp_path / "owner.json").write_text(json.dumps(owner | {"machine": "x", "host": "login2"}))
    with pytest.raises(FolderTaken, match="login2"):
        acquire_folder(tmp_path, home)


def test_damaged_owner_record_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "owner.json").write_text("{")
    with pytest.raises(FolderTaken, match="cannot parse"):
        acquire_folder(tmp_path, Home(tmp_path / "home"))
    assert (tmp_path / "owner.json").read_text() == "{"


def test_one_of_two_queues_that_claim_a_folder_at_once_gets_it(tmp_path: Path) -> None:
    def take(name: int) -> bool:
        try:
            acquire_folder(tmp_path / "pilots", Home(tmp_path / str(name)))
        except FolderTaken:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(take, range(4))) == 1
    assert [path.name for path in (tmp_path / "pilots").iterdir()] == ["owner.json"]


def a_folder(place: Path, token: str) -> PilotFolder:
    folder = PilotFolder(place / token)
    make_pilot_folder(folder, PilotSpec(token=token, backend="lab", version="1", cpus=1))
    return folder


def test_folder_of_a_pilot_is_deleted_when_no_attempt_is_kept_there(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, "launcher-0")
    (folder.attempts_folder / "1-1").mkdir()
    assert not delete_pilot_folder(folder)
    assert folder.log.exists()
    (folder.attempts_folder / "1-1").rmdir()
    assert delete_pilot_folder(folder)
    assert not folder.folder.exists()
    assert delete_pilot_folder(folder)


def test_folders_are_deleted_after_their_last_attempt(tmp_path: Path) -> None:
    names = [f"launcher-{number:020x}" for number in range(3)]
    for name in names:
        (a_folder(tmp_path, name).folder / "process.json").touch()
    (tmp_path / names[0] / "attempts" / "1-1").mkdir()
    (tmp_path / "other").mkdir()
    home, other = Home(tmp_path / "home"), Home(tmp_path / "another")
    acquire_folder(tmp_path, other)
    delete_unrecorded_folders(tmp_path, home, [].__contains__)
    assert {*names} < {path.name for path in tmp_path.iterdir()}, "they are another queue's"
    delete_unrecorded_folders(tmp_path, other, [names[1]].__contains__)
    assert {path.name for path in tmp_path.iterdir()} == {*names[:2], "other", "owner.json"}
    delete_unrecorded_folders(tmp_path / "nowhere", other, [].__contains__)


# --- where pilots were is known after they are gone


def somewhere(token: str, node: str = "") -> PilotRow:
    return PilotRow(backend="slurm", token=token, stage="running", node=node)


def test_pilot_is_recorded_once_when_its_node_is_known(home: Home) -> None:
    home.folder.mkdir(parents=True, exist_ok=True)
    file = NodesFile(home)
    file.add([somewhere("launcher-1")])
    assert read_past_pilots(home) == {}
    for _ in range(2):
        file.add([somewhere("launcher-1", "n1"), somewhere("launcher-2")])
    NodesFile(home).add([somewhere("launcher-1", "n1")])  # the next scheduler
    assert (home.folder / "nodes.jsonl").read_text().count("launcher-1") == 1
    assert read_past_pilots(home)["launcher-1"].node == "n1"


def test_damaged_line_hides_no_other(home: Home) -> None:
    home.folder.mkdir(parents=True, exist_ok=True)
    NodesFile(home).add([somewhere("launcher-1", "n1")])
    with (home.folder / "nodes.jsonl").open("a") as file:
        file.write('{"token": 7}\n[]\nnull\n{"token": "launcher-3", "node": "n')
    NodesFile(home).add([somewhere("launcher-2", "n2")])
    assert set(read_past_pilots(home)) == {"launcher-1", "launcher-2"}


def test_read_only_home_stops_nothing(home: Home) -> None:
    (home.folder / "nodes.jsonl").mkdir(parents=True)
    NodesFile(home).add([somewhere("launcher-1", "n1")])
    assert read_past_pilots(home) == {}


# --- pilots.json: written after each change, and read with any content


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


def test_written_report_is_read(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert read_pilot_status(home) == PilotStatus()
    PilotsFile(home).write([BACKEND], [PILOT], 1.0, 60.0)
    assert read_pilot_status(home) == PilotStatus(at=60.0, backends=(BACKEND,), pilots=(PILOT,))
    assert PILOT.silent_s(60.0) == 10.0
    assert PILOT.silent_s(40.0) == 0.0


def test_report_is_rewritten_after_a_change(tmp_path: Path) -> None:
    home, file = Home(tmp_path), PilotsFile(Home(tmp_path))
    path = tmp_path / "pilots.json"
    file.write([], [], 0.0, 1.0)
    assert not path.exists()
    file.write([BACKEND], [], 1.0, 1.0)
    assert not file.is_due(1.5)
    assert file.is_due(2.5)
    first = path.stat().st_ino
    file.write([BACKEND], [], 3.0, 3.0)
    assert path.stat().st_ino == first
    file.write([BACKEND], [PILOT], 4.0, 4.0)
    assert read_pilot_status(home).pilots == (PILOT,)
    file.write([], [], 5.0, 5.0)
    assert read_pilot_status(home) == PilotStatus(at=5.0)


@given(record=st.dictionaries(st.sampled_from(["at", "backends", "pilots"]), JSON))
def test_no_file_in_that_place_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, record: dict[str, object]
) -> None:
    home = Home(tmp_path_factory.mktemp("home"))
    (home.folder / "pilots.json").write_text(json.dumps({"schema": 1, **record}))
    report = read_pilot_status(home)
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
def test_invalid_row_is_skipped(tmp_path: Path, row: object) -> None:
    sound = {"backend": "lab", "token": "t", "stage": "waiting", "new": 1}
    (tmp_path / "pilots.json").write_text(json.dumps({"schema": 1, "pilots": [row, sound]}))
    report = read_pilot_status(Home(tmp_path))
    assert [pilot.token for pilot in report.pilots] == ["t"]
    assert report.pilots[0].stage == "waiting"
