import json
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.gpu.reservation_files import (
    MOST_BYTES,
    MOST_FILES,
    Publication,
    ReservationReader,
    file_name,
    new_name,
    parse,
    remove_abandoned,
    reservations_folder,
    write_publication,
)
from launcher.system.processes import boot_id
from tests.launcher.users import NOBODY, as_user, root_only, said_by, shared_folder

UID = os.geteuid()
NAME = f"launcher-claims.{UID}.0123abcd.json"


@pytest.fixture
def public() -> Iterator[Path]:
    with shared_folder() as folder:
        yield folder


def a_record(**changes: Any) -> dict[str, Any]:
    record = {
        "schema": 1,
        "name": NAME,
        "boot": boot_id(),
        "at": 5.5,
        "serial": "5e",
        "seen": {},
        "promises": [["GPU-1", 2, 3]],
    }
    return record | changes


def a_publication(**changes: Any) -> Publication:
    values: dict[str, Any] = {"serial": "5e", "at": 5.5, "seen": {}, "settled": {}, "fresh": {}}
    return Publication(**values | changes)


def read(folder: Path) -> tuple[dict[str, Publication], dict[str, str]]:
    """What is published, and why other files do not count."""
    complaints: dict[str, str] = {}
    return ReservationReader(folder, complaints.__setitem__).read(""), complaints


def test_what_is_written_is_read(public: Path) -> None:
    one = a_publication(
        seen={"other": "0dd5"}, settled={"GPU-1": 7}, fresh={"GPU-1": 0, "GPU-2": 1}
    )
    write_publication(public, NAME, one)
    found, complaints = read(public)
    assert not complaints
    assert found[NAME].seen == {"other": "0dd5"}
    assert dict(found[NAME].settled) == {"GPU-1": 7, "GPU-2": 0}
    assert dict(found[NAME].fresh) == {"GPU-1": 0, "GPU-2": 1}
    assert [file.name for file in public.iterdir()] == [NAME]


def test_all_may_read_a_file_whatever_the_umask_is(public: Path) -> None:
    before = os.umask(0o077)
    try:
        write_publication(public, NAME, a_publication())
    finally:
        os.umask(before)
    assert stat.S_IMODE((public / NAME).stat().st_mode) == 0o644


def test_a_file_that_others_would_not_count_is_not_written(public: Path) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        write_publication(public, NAME, a_publication(settled={"no GPU": 1}))
    with pytest.raises(ValueError, match="not what a scheduler publishes"):
        write_publication(public, NAME, a_publication(at=float("nan")))
    assert list(public.iterdir()) == []


def test_more_others_than_a_file_can_name_leave_room_for_the_promises(public: Path) -> None:
    seen = {file_name(uid, Path("/")): "5e" * 8 for uid in range(5000)}
    settled = {f"GPU-{number:090}": 1 << 40 for number in range(256)}
    write_publication(public, NAME, a_publication(seen=seen, settled=settled))
    assert len(read(public)[0][NAME].settled) == 256


def test_a_link_is_not_followed(public: Path, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(json.dumps(a_record()))
    (public / NAME).symlink_to(tmp_path / NAME)
    assert read(public) == ({}, {NAME: "it is no plain file of the user whose name it bears"})


@root_only
def test_a_file_that_bears_another_users_name_does_not_count(public: Path) -> None:
    (public / NAME).write_text(json.dumps(a_record()))
    os.chown(public / NAME, NOBODY, NOBODY)
    assert read(public) == ({}, {NAME: "it is no plain file of the user whose name it bears"})


@root_only
def test_a_file_that_may_not_be_read_does_not_count(public: Path) -> None:
    (public / NAME).write_text(json.dumps(a_record()))
    (public / NAME).chmod(0o600)
    said = said_by(as_user(NOBODY, lambda: read(public)))
    assert said == str(({}, {NAME: "Permission denied"}))


@root_only
def test_a_crowd_of_hostile_files_hides_no_honest_promise_and_is_asked_about_once(
    public: Path,
) -> None:
    write_publication(public, NAME, a_publication(settled={"GPU-1": 7}))
    crowd = [f"launcher-claims.{UID}.{number:08x}.json" for number in range(1, 1501)]
    for name in crowd:  # under the honest user's uid
        (public / name).touch()
        os.chown(public / name, NOBODY, NOBODY)
    for number in range(200):  # and under their maker's own
        (public / f"launcher-claims.{NOBODY}.{number:08x}.json").touch()
        os.chown(public / f"launcher-claims.{NOBODY}.{number:08x}.json", NOBODY, NOBODY)
    reader = ReservationReader(public, lambda *_: None)

    assert list(reader.read("")) == [NAME]
    first, reader.asked = reader.asked, 0
    assert first >= 1701
    for number in range(10):
        other = f"launcher-claims.{UID}.f{number:07x}.json"
        write_publication(public, other, a_publication(settled={"GPU-1": number}))
        assert {NAME, other} <= set(reader.read(other))
    assert reader.asked < 10 * 600, "most of the crowd was not asked about again"
    # a name that was taken by somebody else counts once it is its user's, whatever its inode was
    (public / crowd[0]).unlink()
    write_publication(public, crowd[0], a_publication(settled={"GPU-1": 9}))
    assert crowd[0] in reader.read(crowd[0])
    os.chown(public / crowd[1], UID, UID)
    (public / crowd[1]).write_text(json.dumps(a_record(name=crowd[1])))
    assert any(crowd[1] in reader.read(crowd[1]) for _ in range(8))


def test_a_pipe_or_a_folder_blocks_nobody(public: Path) -> None:
    os.mkfifo(public / NAME)
    (public / file_name(UID, Path("/a"))).mkdir()
    started = time.monotonic()
    found, complaints = read(public)
    assert time.monotonic() - started < 1
    assert found == {}
    assert len(complaints) == 2


@root_only
def test_a_device_is_not_opened(public: Path) -> None:
    try:
        os.mknod(public / NAME, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("this container makes no devices")
    assert read(public)[0] == {}


def test_a_hard_link_to_an_older_version_does_not_count(public: Path) -> None:
    write_publication(public, NAME, a_publication())
    other = file_name(UID, Path("/other"))
    os.link(public / NAME, public / other)
    found, complaints = read(public)
    assert list(found) == [NAME]
    assert list(complaints) == [other]


def test_what_an_earlier_boot_left_does_not_count(public: Path) -> None:
    (public / NAME).write_text(json.dumps(a_record(boot="1b4e28ba-2fa1-11d2-883f-b9a761bde3fb")))
    assert read(public) == ({}, {})


def test_abandoned_files_of_an_earlier_boot_go_and_those_of_others_and_garbage_stay(
    public: Path,
) -> None:
    earlier, garbage = NAME.replace("0123", "0000"), NAME.replace("0123", "1111")
    others = f"launcher-claims.{UID + 1}.0123abcd.json"
    records = {
        NAME: a_record(at=100.0),
        earlier: a_record(name=earlier, at=100.0, boot="1b4e28ba-2fa1-11d2-883f-b9a761bde3fb"),
        others: a_record(name=others, at=0.0),
        garbage: {},
    }
    for name, record in records.items():
        (public / name).write_text(json.dumps(record))
    assert remove_abandoned(public, UID, 160.0, 60.0) == [earlier]
    assert remove_abandoned(public, UID, 161.0, 60.0) == [NAME]
    assert {file.name for file in public.iterdir()} == {others, garbage}
    assert remove_abandoned(public / "nowhere", UID, 161.0, 60.0) == []


def test_files_of_other_programs_are_nobodys_business(public: Path) -> None:
    for name in (
        "launcher-claims.json",
        f".{NAME}.5e",
        f"{NAME}~",
        "launcher-claims.٣.0123abcd.json",
    ):
        (public / name).write_text("{")
    assert read(public) == ({}, {})


def test_a_folder_that_has_not_changed_is_not_listed_again_and_what_comes_is_seen(
    public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[Path] = []
    scandir = os.scandir

    def noted(folder: Path) -> Any:
        listed.append(folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", noted)
    reader = ReservationReader(public, lambda *_: None)
    names = [file_name(UID, Path(f"/{number}")) for number in range(3)]
    for at, name in enumerate(names, int(1e9)):
        write_publication(public, name, a_publication())
        os.utime(public, (at, at))  # long ago: no other change bears the same time
        assert name in reader.read("")
        listed.clear()
        write_publication(public, name, a_publication(settled={"GPU-1": 7}))  # a renewal
        os.utime(public, (at, at))
        assert reader.read("")[name].settled == {"GPU-1": 7}
        assert listed == []
    (public / names[0]).unlink()
    assert set(reader.read("")) == set(names[1:])


def test_of_one_user_the_newest_files_count_and_always_our_own(public: Path) -> None:
    names = [file_name(UID, Path(f"/{number}")) for number in range(MOST_FILES + 9)]
    for age, name in enumerate(names):
        write_publication(public, name, a_publication())
        os.utime(public / name, (1e9 - age, 1e9 - age))
    complaints: list[str] = []
    reservation = ReservationReader(public, lambda _, why: complaints.append(why)).read(names[-1])
    assert set(reservation) == {names[-1], *names[: MOST_FILES - 1]}
    assert complaints == [f"they are more than {MOST_FILES}"]


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"name": "launcher-claims.0.00000000.json"},
        {"at": float("inf")},
        {"at": float("nan")},
        {"at": -1},
        {"at": 10**400},
        {"at": "5"},
        {"serial": None},
        {"seen": []},
        {"promises": {}},
        {"promises": [["GPU-1", 2, 3]] * 257},
        {"promises": [["GPU-1", 2]]},
        {"promises": [["GPU-1", -1, 3]]},
        {"promises": [["GPU-1", 1.5, 3]]},
        {"promises": [["GPU-1", 0, 10**30]]},
        {"promises": [["x" * 97, 1, 1]]},
        {"promises": [["\x1b[2J", 1, 1]]},
        {"promises": [[["GPU-1"], 1, 1]]},
    ],
    ids=str,
)
def test_what_no_scheduler_writes_does_not_count(changes: dict[str, Any], public: Path) -> None:
    (public / NAME).write_text(json.dumps(a_record(**changes)))
    found, complaints = read(public)
    assert found == {}
    assert complaints[NAME].startswith("it ")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b"[" * 50_000,
        b" " * (MOST_BYTES + 1),
        b'{"at": 1' + b"0" * 9999,
    ],
    ids=["empty", "cut", "null", "binary", "deep", "large", "digits"],
)
def test_garbage_does_not_count(content: bytes, public: Path) -> None:
    (public / NAME).write_bytes(content)
    found, complaints = read(public)
    assert found == {}
    assert list(complaints) == [NAME]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
PROMISE = st.tuples(st.just("GPU-1") | st.text(max_size=3), st.integers(), st.integers())
FIELDS = st.sampled_from(sorted(a_record()))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(FIELDS, JSON | st.lists(PROMISE, max_size=3), max_size=4))
def test_whatever_a_record_holds_no_amount_is_negative_and_nothing_else_is_raised(
    changes: dict[str, Any],
) -> None:
    try:
        one = parse(NAME, json.dumps(a_record(**changes)).encode())
    except (ValueError, RecursionError):
        return
    if one is not None:
        assert all(amount >= 0 for amount in (*one.settled.values(), *one.fresh.values()))
        assert 0 <= one.at < float("inf")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_whatever_bytes_a_file_holds_nothing_else_is_raised(data: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        parse(NAME, data)


def test_a_named_folder_is_used_and_must_be_absolute(tmp_path: Path) -> None:
    assert reservations_folder({"LAUNCHER_CLAIMS": str(tmp_path)}) == tmp_path
    with pytest.raises(UsageError, match="LAUNCHER_CLAIMS"):
        reservations_folder({"LAUNCHER_CLAIMS": "claims"})


@root_only
def test_a_folder_in_which_somebody_could_delete_the_files_of_others_is_passed_over(
    public: Path, tmp_path: Path
) -> None:
    last = Path("/tmp")
    assert reservations_folder({}, [public, last]) == public
    os.chown(public, NOBODY, NOBODY)
    assert reservations_folder({}, [public, last]) == last
    tmp_path.chmod(0o777)
    assert reservations_folder({}, [tmp_path, tmp_path / "absent", last]) == last


def test_what_an_older_launcher_wrote_is_read_and_it_can_read_what_we_write(public: Path) -> None:
    (public / NAME).write_text(json.dumps(a_record()))  # as version 0.2 writes it
    assert read(public)[0][NAME].home == ""
    name = new_name(UID)
    write_publication(public, name, a_publication(settled={"cores:ff": 3, "GPU-1": 5}, home="h"))
    match json.loads((public / name).read_text()):  # as version 0.2 reads it
        case {
            "schema": 1,
            "name": str(own),
            "boot": str(),
            "at": int() | float(),
            "serial": str(),
            "seen": dict(),
            "promises": [["GPU-1", 5, 0], ["cores:ff", 3, 0]],
        }:
            assert re.fullmatch(r"launcher-claims\.(0|[1-9][0-9]{0,9})\.[0-9a-f]{8}\.json", own)
        case other:
            pytest.fail(f"an older launcher does not understand {other}")
    assert new_name(UID) != name


def test_homes_are_told_apart_by_path_and_by_folder(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    name = file_name(7, home)
    assert name == file_name(7, home)
    assert name.startswith("launcher-claims.7.")
    other.mkdir()
    home.rename(tmp_path / "away")
    other.rename(home)
    assert len({name, file_name(7, home), file_name(7, other), file_name(8, home)}) == 4
