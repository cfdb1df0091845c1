"""Files with the reservations, waiting requests and usage of schedulers. Impossible content is not used."""

import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.queue.gpu.foreign_reservations import STALE_S
from launcher.queue.gpu.own_reservations import LAG_S, Reservation
from launcher.queue.gpu.publication import (
    MOST_BYTES,
    Publication,
    parse_publication,
    salvage_publication,
    write_publication,
)
from launcher.queue.gpu.reservation_files import (
    MOST_FILES,
    ReservationReader,
    home_hash,
    new_file_name,
    remove_abandoned,
    reservations_folder,
)
from launcher.queue.gpu.reservation_watch import NOT_WATCHED, ReservationWatch
from launcher.queue.gpu.reservations import REFRESH_S, USAGE_DELAY_S, ReservationBoard
from launcher.queue.jobs.accounts import (
    HALF_LIFE_S,
    ResourceDemand,
    ResourceUsage,
    decayed_seconds,
    read_demand,
    read_resource_usage,
)
from launcher.system.errors import UsageError
from launcher.system.processes import MOST_PID, boot_id, identity, pid_namespace
from tests.build import GIB, Clock
from tests.launcher.users import NOBODY, as_user, root_only, said_by, shared_folder

UID = os.geteuid()
NAME = f"launcher-claims.{UID}.0123abcd.json"
WHOLE = {"alone:GPU-1": 1, "jobs:GPU-1": 1}
# as commit 75abcf1a writes it, with the boot, pid, start and PID namespace of a job
EARLIER_FILE = (
    '{"schema": 1, "name": "%s", "boot": "%s", "at": 995.5, "serial": "00c0ffee00c0ffee", '
    '"home": "0123456789abcdef0123456789abcdef", "folder": "/queues/b", "within": ["/user.slice"], '
    '"seen": {"launcher-claims.7.89abcdef.json": "5e"}, '
    '"promises": [["GPU-1", 2, 3], ["alone:GPU-1", 1, 0], ["cores:ff", 4, 0], ["jobs:GPU-1", 1, 0]], '
    '"measured": {"GPU-1": [[994.5, 2], [995.0, 1]]}, "heads": [[%d, %d, %d]], '
    '"wish": {"since": 990.0, "gpus": 2, "vram": 8589934592, "cpus": 4, "ram": 1073741824, '
    '"exclusive": true, "lacks": "gpu", "cards": ["GPU-2"], "count": 3}, '
    '"use": {"cards": 12.5, "cores": 100.0, "memory": 3.0}}'
)


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


def read_publications(folder: Path) -> tuple[dict[str, Publication], dict[str, str]]:
    """What is published, and why other files do not count."""
    complaints: dict[str, str] = {}
    return ReservationReader(folder, complaints.__setitem__).read(""), complaints


def test_publication_round_trip(public: Path) -> None:
    one = a_publication(
        seen={"other": "0dd5"}, settled={"GPU-1": 7}, fresh={"GPU-1": 0, "GPU-2": 1}
    )
    write_publication(public, NAME, one)
    found, complaints = read_publications(public)
    assert not complaints
    assert found[NAME].seen == {"other": "0dd5"}
    assert dict(found[NAME].settled) == {"GPU-1": 7, "GPU-2": 0}
    assert dict(found[NAME].fresh) == {"GPU-1": 0, "GPU-2": 1}
    assert [file.name for file in public.iterdir()] == [NAME]


def test_file_is_readable_by_all_for_every_umask(public: Path) -> None:
    before = os.umask(0o077)
    try:
        write_publication(public, NAME, a_publication())
    finally:
        os.umask(before)
    assert stat.S_IMODE((public / NAME).stat().st_mode) == 0o644


def test_invalid_publication_is_not_written(public: Path) -> None:
    with pytest.raises(ValueError, match="impossible reservation"):
        write_publication(public, NAME, a_publication(settled={"no GPU": 1}))
    with pytest.raises(ValueError, match="not a reservation file of this name"):
        write_publication(public, NAME, a_publication(at=float("nan")))
    assert list(public.iterdir()) == []


def test_many_other_users_leave_room_for_reservations_in_the_file(public: Path) -> None:
    seen = {new_file_name(uid): "5e" * 8 for uid in range(5000)}
    settled = {f"GPU-{number:090}": 1 << 40 for number in range(256)}
    write_publication(public, NAME, a_publication(seen=seen, settled=settled))
    assert len(read_publications(public)[0][NAME].settled) == 256


def test_symlink_is_not_followed(public: Path, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(json.dumps(a_record()))
    (public / NAME).symlink_to(tmp_path / NAME)
    assert read_publications(public) == (
        {},
        {NAME: "it is not a regular file of the user in its name"},
    )


@root_only
def test_file_named_after_another_user_does_not_count(public: Path) -> None:
    (public / NAME).write_text(json.dumps(a_record()))
    os.chown(public / NAME, NOBODY, NOBODY)
    assert read_publications(public) == (
        {},
        {NAME: "it is not a regular file of the user in its name"},
    )


@root_only
def test_unreadable_file_does_not_count(public: Path) -> None:
    (public / NAME).write_text(json.dumps(a_record()))
    (public / NAME).chmod(0o600)
    said = said_by(as_user(NOBODY, lambda: read_publications(public)))
    assert said == str(({}, {NAME: "Permission denied"}))


@root_only
def test_many_hostile_files_hide_no_valid_reservation_and_are_checked_once(
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
    first, reader.stat_calls = reader.stat_calls, 0
    assert first >= 1701
    for number in range(10):
        other = f"launcher-claims.{UID}.f{number:07x}.json"
        write_publication(public, other, a_publication(settled={"GPU-1": number}))
        assert {NAME, other} <= set(reader.read(other))
    assert reader.stat_calls < 10 * 600, "most of the crowd was not asked about again"
    # a name that was taken by somebody else counts once it is its user's, whatever its inode was
    (public / crowd[0]).unlink()
    write_publication(public, crowd[0], a_publication(settled={"GPU-1": 9}))
    assert crowd[0] in reader.read(crowd[0])
    os.chown(public / crowd[1], UID, UID)
    (public / crowd[1]).write_text(json.dumps(a_record(name=crowd[1])))
    assert any(crowd[1] in reader.read(crowd[1]) for _ in range(8))


def test_pipe_or_folder_does_not_block_reading(public: Path) -> None:
    os.mkfifo(public / NAME)
    (public / new_file_name(UID)).mkdir()
    # a pipe that is opened to be read would wait for ever
    found, complaints = read_publications(public)
    assert found == {}
    assert len(complaints) == 2


@root_only
def test_a_device_is_not_opened(public: Path) -> None:
    try:
        os.mknod(public / NAME, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("this container makes no devices")
    assert read_publications(public)[0] == {}


def test_a_hard_link_to_an_older_version_does_not_count(public: Path) -> None:
    write_publication(public, NAME, a_publication())
    other = new_file_name(UID)
    os.link(public / NAME, public / other)
    found, complaints = read_publications(public)
    assert list(found) == [NAME]
    assert list(complaints) == [other]


def test_files_of_an_earlier_boot_do_not_count(public: Path) -> None:
    (public / NAME).write_text(json.dumps(a_record(boot="1b4e28ba-2fa1-11d2-883f-b9a761bde3fb")))
    assert read_publications(public) == ({}, {})


def test_own_files_of_an_earlier_boot_are_removed_and_all_others_stay(
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


def test_files_of_other_programs_are_ignored(public: Path) -> None:
    for name in (
        "launcher-claims.json",
        f".{NAME}.5e",
        f"{NAME}~",
        "launcher-claims.٣.0123abcd.json",
    ):
        (public / name).write_text("{")
    assert read_publications(public) == ({}, {})


def test_unchanged_folder_is_not_listed_again_and_new_files_are_found(
    public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[Path] = []
    scandir = os.scandir

    def noted(folder: Path) -> Any:
        listed.append(folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", noted)
    reader = ReservationReader(public, lambda *_: None)
    names = [new_file_name(UID) for _ in range(3)]
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


def test_newest_files_of_a_user_and_always_our_own_count(public: Path) -> None:
    names = [new_file_name(UID) for _ in range(MOST_FILES + 9)]
    for age, name in enumerate(names):
        write_publication(public, name, a_publication())
        os.utime(public / name, (1e9 - age, 1e9 - age))
    complaints: list[str] = []
    reservation = ReservationReader(public, lambda _, why: complaints.append(why)).read(names[-1])
    assert set(reservation) == {names[-1], *names[: MOST_FILES - 1]}
    assert complaints == [f"there are more than {MOST_FILES}"]


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
def test_gpu_in_invalid_content_is_reserved_as_a_whole(
    changes: dict[str, Any], public: Path
) -> None:
    (public / NAME).write_text(json.dumps(a_record(**changes)))
    found, complaints = read_publications(public)
    named = "GPU-1" in str(a_record(**changes))
    assert {name: one.settled for name, one in found.items()} == ({NAME: WHOLE} if named else {})
    assert complaints[NAME].startswith("it ")
    assert ("it reserves nothing" in complaints[NAME]) != named


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
def test_garbage_without_a_gpu_does_not_count(content: bytes, public: Path) -> None:
    (public / NAME).write_bytes(content)
    found, complaints = read_publications(public)
    assert found == {}
    assert list(complaints) == [NAME]


def test_file_of_commit_75abcf1a_is_read(public: Path) -> None:
    job = identity(os.getpid())
    assert job is not None
    head = (job.pid, job.start_ticks, job.namespace)
    (public / NAME).write_text(EARLIER_FILE % (NAME, boot_id(), *head))
    found, complaints = read_publications(public)
    assert not complaints
    one = found[NAME]
    assert one.settled == {"GPU-1": 2, "alone:GPU-1": 1, "cores:ff": 4, "jobs:GPU-1": 1}
    assert {name: amount for name, amount in one.fresh.items() if amount} == {"GPU-1": 3}
    assert one.measured == {"GPU-1": ((994.5, 2), (995.0, 1))}
    assert one.supervisors == (job,)
    assert one.supervisors[0].namespace == job.namespace
    assert one.demand is not None
    assert one.demand == ResourceDemand(
        *(990.0, 2, 8 * GIB, 4, GIB), exclusive=True, lacks="gpu", cards=("GPU-2",), count=3
    )
    assert one.usage == ResourceUsage(cards=12.5, cores=100.0, memory=3.0)
    assert (one.folder, one.seen) == ("/queues/b", {"launcher-claims.7.89abcdef.json": "5e"})


def unreadable_files() -> dict[str, str]:
    """Files that name this process and GPU-1, none of them in our form."""
    job = identity(os.getpid())
    assert job is not None
    head = (job.pid, job.start_ticks, job.namespace)
    whole = EARLIER_FILE % (NAME, boot_id(), *head)
    record = json.loads(whole)
    return {
        "cut": whole[: whole.index(', "wish"')],
        "binary": f"\0{json.dumps(record | {'wish': None})}",
        "large": f"{whole}{' ' * MOST_BYTES}",
        "other version": json.dumps(record | {"schema": 2}),
        "other heads": json.dumps(record | {"heads": [[*head, "running"]]}),
        "other fields": json.dumps({"schema": 2, "cards": ["GPU-1"], "jobs": [{"pid": job.pid}]}),
    }


@pytest.mark.parametrize("kind", unreadable_files())
def test_unreadable_file_reserves_whole_gpus_while_renewed_or_its_process_lives(
    kind: str, public: Path, clock: Clock
) -> None:
    content = unreadable_files()[kind]
    (public / NAME).write_text(content)
    ours = a_board(public, "a", clock)

    def reserved() -> set[str]:
        return {each.device for each in ours.foreign_reservations() if each.amount}

    assert reserved() == set(WHOLE)
    os.utime(public / NAME, (1e9, 1e9))
    assert reserved() == set(WHOLE), "its process lives"
    dead = content.replace(f"{os.getpid()}", f"{MOST_PID - 1}")
    (public / NAME).write_text(dead)
    assert reserved() == set(WHOLE), "it was just written"
    os.utime(public / NAME, (1e9, 1e9))
    assert reserved() == set()
    assert [what for what, _ in ours.complaints] == [NAME]


def test_reused_process_number_keeps_no_gpu(public: Path, clock: Clock) -> None:
    content = json.dumps({"gpus": ["GPU-1"], "heads": [[os.getpid(), 1, pid_namespace()]]})
    (public / NAME).write_text(content)
    os.utime(public / NAME, (1e9, 1e9))
    assert a_board(public, "a", clock).foreign_reservations() == ()


def test_gpu_for_which_an_unreadable_file_only_waits_is_not_reserved(
    public: Path, clock: Clock
) -> None:
    (public / NAME).write_text(json.dumps({"schema": 2, "wish": {"cards": ["GPU-1"]}}))
    assert a_board(public, "a", clock).foreign_reservations() == ()


def test_unreadable_file_of_our_own_queue_reserves_nothing_and_is_replaced(
    public: Path, clock: Clock
) -> None:
    ours = a_board(public, "a", clock)
    record = {"schema": 2, "gpus": ["GPU-1"], "home": home_hash(Path("/queues/a"))}
    (public / NAME).write_text(json.dumps(record))
    assert ours.foreign_reservations() == ()
    assert ours.publish([a_reservation()])
    assert [file.name for file in public.iterdir()] == [ours.name]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
PROMISE = st.tuples(st.just("GPU-1") | st.text(max_size=3), st.integers(), st.integers())
FIELDS = st.sampled_from(sorted(a_record()))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(FIELDS, JSON | st.lists(PROMISE, max_size=3), max_size=4))
def test_any_record_gives_nonnegative_amounts_or_the_documented_error(
    changes: dict[str, Any],
) -> None:
    try:
        one = parse_publication(NAME, json.dumps(a_record(**changes)).encode())
    except ValueError:
        return
    if one is not None:
        assert all(amount >= 0 for amount in (*one.settled.values(), *one.fresh.values()))
        assert 0 <= one.at < float("inf")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_around_a_gpu_reserve_it_as_a_whole(data: bytes) -> None:
    one = salvage_publication(b"%b GPU-1 %b" % (data, data), "u", 5.5)
    assert one is not None
    assert one.settled == WHOLE


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_a_publication_or_the_documented_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="it "):
        parse_publication(NAME, data)


def test_a_named_folder_is_used_and_must_be_absolute(tmp_path: Path) -> None:
    assert reservations_folder({"LAUNCHER_CLAIMS": str(tmp_path)}) == tmp_path
    with pytest.raises(UsageError, match="LAUNCHER_CLAIMS"):
        reservations_folder({"LAUNCHER_CLAIMS": "claims"})


@root_only
def test_folder_in_which_others_can_delete_files_is_not_used(public: Path, tmp_path: Path) -> None:
    last = Path("/tmp")
    assert reservations_folder({}, [public, last]) == public
    os.chown(public, NOBODY, NOBODY)
    assert reservations_folder({}, [public, last]) == last
    tmp_path.chmod(0o777)
    assert reservations_folder({}, [tmp_path, tmp_path / "absent", last]) == last


def test_queue_folders_are_distinguished_by_path_and_inode(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    before = home_hash(home)
    assert before == home_hash(home)
    other.mkdir()
    home.rename(tmp_path / "away")
    other.rename(home)
    assert len({before, home_hash(home), home_hash(other)}) == 3


# --- waiting requests and usage in files: across queues and users, decayed


GPU = "GPU-5ee1"
WISH = ResourceDemand(since=990.0, gpus=2, vram=8 * GIB, cpus=4, ram=GIB, cards=(GPU,), count=3)


Boards = tuple[ReservationBoard, ReservationBoard]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def boards(tmp_path: Path, clock: Clock) -> Boards:
    """The boards of two queue folders."""
    return a_board(tmp_path, "a", clock), a_board(tmp_path, "b", clock)


def a_board(folder: Path, name: str, clock: Callable[[], float]) -> ReservationBoard:
    return ReservationBoard(folder, Path("/queues") / name, clock=clock)


def a_reservation(amount: int = 6, used: int | None = 0) -> Reservation:
    return Reservation(device=GPU, amount=amount, used=used, job=1)


def sum_foreign_reservations(board: ReservationBoard, looked_at: float | None = None) -> int:
    return sum(promise.amount for promise in board.foreign_reservations(looked_at))


# --- use


def test_usage_halves_in_a_day_and_new_usage_is_added() -> None:
    used = ResourceUsage(cards=8.0, cores=4.0, memory=2.0)
    assert used.decay(HALF_LIFE_S) == ResourceUsage(cards=4.0, cores=2.0, memory=1.0)
    steady = ResourceUsage()
    for _ in range(24 * 60):
        steady = steady.accumulate(ResourceUsage(cards=1.0), 60.0)
    at_once = ResourceUsage().accumulate(ResourceUsage(cards=1.0), HALF_LIFE_S)
    assert steady.cards == pytest.approx(at_once.cards)
    assert at_once.cards == pytest.approx(HALF_LIFE_S / log(2) / 2)
    assert decayed_seconds(10.0, 0.0) == pytest.approx(10.0, rel=1e-3)
    assert decayed_seconds(1e12, 0.0) == pytest.approx(HALF_LIFE_S / log(2)), "it is bounded"
    assert decayed_seconds(-5.0, 10.0) == 0.0, "a clock that was set back uses nothing"


# --- content of a file


def test_waiting_request_is_published_with_the_usage_of_its_user(
    public: Path, clock: Clock
) -> None:
    ours = a_board(public, "a", clock)
    other = a_board(public, "b", clock)
    other.demand = WISH
    other.set_usage(ResourceUsage(cards=100.0))
    assert other.publish([])
    ours.set_usage(ResourceUsage(cards=30.0))
    clock.now += 2
    ours.foreign_reservations()
    (colleague,) = ours.peers()
    assert colleague.user.startswith("another queue of user ")
    assert colleague.demand == WISH
    assert colleague.waited_s == pytest.approx(clock.now - WISH.since)
    # the usage of all queues of a user is summed, and between two queues of one user only their
    # usage matters
    assert ours.total_usage().cards == pytest.approx(130.0, rel=1e-3)
    assert colleague.usage.cards == pytest.approx(200.0, rel=1e-3)
    clock.now += STALE_S
    ours.foreign_reservations()
    assert ours.peers() == ()
    assert ours.total_usage().cards == pytest.approx(130.0, rel=1e-2), "what he used he has used"


@root_only
def test_other_user_is_named_and_the_usage_of_all_their_queues_counts(
    public: Path, clock: Clock
) -> None:
    def publish() -> str:
        first, second = a_board(public, "b", clock), a_board(public, "c", clock)
        second.set_usage(ResourceUsage(cards=3600.0))
        second.publish([])  # it waits for nothing, and its scheduler may have left
        first.demand = WISH
        first.set_usage(ResourceUsage(cards=60.0))
        return str(first.publish([]))

    assert said_by(as_user(NOBODY, publish)) == "True"
    ours = a_board(public, "a", clock)
    ours.set_usage(ResourceUsage(cards=5.0))
    ours.foreign_reservations()
    (colleague,) = ours.peers()
    assert "another home" not in colleague.user
    assert colleague.usage.cards == pytest.approx(3660.0)
    assert ours.total_usage().cards == 5.0


def test_file_is_renewed_while_jobs_wait_and_removed_if_it_would_be_empty(
    tmp_path: Path, clock: Clock
) -> None:
    board = a_board(tmp_path, "a", clock)
    board.demand = WISH
    assert board.is_due()
    assert board.publish([])
    board.foreign_reservations()
    assert not board.is_due()
    clock.now += REFRESH_S
    assert board.is_due()
    board.demand = None
    assert board.is_due()
    assert board.publish([])
    assert list(tmp_path.iterdir()) == []


def test_usage_is_published_soon_if_another_user_is_present(boards: Boards, clock: Clock) -> None:
    ours, other = boards
    other.publish([a_reservation()])
    ours.publish([a_reservation()])
    ours.foreign_reservations()
    ours.set_usage(ResourceUsage(cards=50.0))
    assert not ours.is_due()
    clock.now += USAGE_DELAY_S
    assert ours.is_due()


def test_usage_stays_published_after_the_scheduler_exits(
    boards: Boards, tmp_path: Path, clock: Clock
) -> None:
    ours, other = boards
    other.set_usage(ResourceUsage(cards=7200.0))
    assert other.publish([])
    clock.now += HALF_LIFE_S
    a_board(tmp_path, "c", clock).remove_abandoned()
    ours.foreign_reservations()
    assert ours.total_usage().cards == pytest.approx(3600.0)
    clock.now += 10 * HALF_LIFE_S
    a_board(tmp_path, "c", clock).remove_abandoned()
    assert list(tmp_path.iterdir()) == []


ODD: list[dict[str, Any]] = [
    {"use": {"cards": float("nan")}},
    {"use": {"cards": -1}},
    {"use": {"cores": 1e300}},
    {"use": [1]},
    {"use": {"cards": 10**400}},
    {"wish": {"since": float("nan"), "gpus": 1, "cpus": 1, "ram": 0, "lacks": "gpu"}},
    {"wish": {"since": 1, "gpus": -1, "cpus": 1, "ram": 0, "lacks": "gpu"}},
    {"wish": {"since": 1, "gpus": 1, "cpus": True, "ram": 0, "lacks": "gpu"}},
    {"wish": {"since": 1, "gpus": 1 << 40, "cpus": 1, "ram": 0, "lacks": "gpu"}},
    {"wish": {"since": 1, "gpus": 1, "cpus": 1, "ram": 0, "lacks": ["gpu"]}},
    {"wish": {"since": 1, "gpus": 1, "cpus": 1, "ram": 0, "lacks": "all"}},
    {"wish": "everything"},
    {"measured": {GPU: [[float("nan"), 0]]}},
    {"measured": {GPU: [[2, 0], [1, 0]]}},
    {"measured": {GPU: 7}},
]


@pytest.mark.parametrize("changes", ODD, ids=str)
def test_impossible_values_are_ignored_and_the_rest_of_the_file_counts(
    boards: Boards,
    tmp_path: Path,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
) -> None:
    ours, other = boards
    assert other.publish([a_reservation()])
    (file,) = tmp_path.iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    for _ in range(3):
        assert sum_foreign_reservations(ours, clock.now) == 6
        assert ours.peers() == ()
        assert ours.total_usage() == ResourceUsage()
    (name,) = changes
    assert caplog.text.count(f"its {name} is impossible and is ignored") == 1


def test_request_dated_in_the_future_has_waited_zero_seconds(boards: Boards, clock: Clock) -> None:
    ours, other = boards
    other.demand = ResourceDemand(since=clock.now + 1e6, gpus=1)
    other.publish([])
    ours.foreign_reservations()
    assert [colleague.waited_s for colleague in ours.peers()] == [0.0]
    assert read_demand(WISH.to_json()) == WISH
    assert read_resource_usage(
        ResourceUsage(cards=1.5, cores=2.0, memory=3.0)._asdict()
    ) == ResourceUsage(cards=1.5, cores=2.0, memory=3.0)


# --- what is in use counts once as soon as that is known


def test_reservation_shrinks_at_once_for_a_reader_with_a_newer_reading(
    boards: Boards, clock: Clock
) -> None:
    ours, other = boards
    other.publish([a_reservation(used=0)])
    clock.now += 0.5
    measured = clock.now
    other.publish([a_reservation(used=4)])
    assert sum_foreign_reservations(ours) == 6, "nobody knows when we looked"
    assert sum_foreign_reservations(ours, measured - 0.1) == 6, "our look may not show it yet"
    assert sum_foreign_reservations(ours, measured) == 2
    clock.now += LAG_S
    other.publish([a_reservation(used=4)])
    assert sum_foreign_reservations(ours) == 2


def test_released_memory_is_never_free_at_an_older_reading(boards: Boards, clock: Clock) -> None:
    ours, other = boards
    uses = {}
    for used in (0, 5, 1, 6, 2, 3):
        clock.now += 0.5
        uses[clock.now] = used
        other.publish([a_reservation(used=used)])
        for looked_at in uses:
            # a reader between two measurements saw at least the lower usage of the measurements
            # around the reading
            least = min(
                amount
                for at, amount in uses.items()
                if at >= max((each for each in uses if each <= looked_at), default=0.0)
            )
            assert sum_foreign_reservations(ours, looked_at) >= 6 - least


def test_reservation_of_unknown_usage_counts_completely(boards: Boards, clock: Clock) -> None:
    ours, other = boards
    for _ in range(3):
        unknown = Reservation(device=GPU, amount=3, used=None, job=2)
        other.publish([a_reservation(used=4), unknown])
        clock.now += 1
    assert sum_foreign_reservations(ours, clock.now) == 2 + 3


def test_large_change_of_usage_is_published_at_once(tmp_path: Path, clock: Clock) -> None:
    board = a_board(tmp_path, "a", clock)
    board.publish([a_reservation(8 * GIB, used=0)])
    assert not board.has_notable_change([a_reservation(8 * GIB, used=1 << 20)])
    assert board.has_notable_change([a_reservation(8 * GIB, used=4 * GIB)])


# --- a scheduler that was killed


def test_reservation_stays_while_its_job_lives_after_the_scheduler_was_killed(
    boards: Boards, clock: Clock
) -> None:
    ours, other = boards
    me = identity(os.getpid())
    assert me is not None
    other.supervisors = (replace(me, start_ticks=1), me)
    other.publish([a_reservation()])
    clock.now += 100 * STALE_S
    assert sum_foreign_reservations(ours) == 6
    other.supervisors = (replace(me, start_ticks=1),)  # another process has its number now
    other.publish([a_reservation()])
    clock.now += STALE_S + 1
    assert sum_foreign_reservations(ours) == 0


@root_only
def test_only_a_process_of_the_same_user_keeps_a_reservation(public: Path, clock: Clock) -> None:
    me = identity(os.getpid())
    assert me is not None

    def publish() -> str:
        board = a_board(public, "b", clock)
        board.supervisors = (me,)
        return str(board.publish([a_reservation()]))

    assert said_by(as_user(NOBODY, publish)) == "True"
    ours = a_board(public, "a", clock)
    assert sum_foreign_reservations(ours) == 6
    clock.now += STALE_S + 1
    assert sum_foreign_reservations(ours) == 0


# --- a change wakes


def test_only_changes_by_another_scheduler_wake_the_watch(boards: Boards, tmp_path: Path) -> None:
    ours, other = boards
    watch = ReservationWatch(tmp_path)
    assert watch.descriptor != NOT_WATCHED
    ours.publish([a_reservation()])
    (tmp_path / "another-program").write_text("")
    (tmp_path / "another-program").unlink()
    assert not watch.poll_peer_changes(ours.names)
    other.publish([a_reservation()])
    assert watch.poll_peer_changes(ours.names)
    assert not watch.poll_peer_changes(ours.names)
    other.clear()
    assert watch.poll_peer_changes(ours.names)
    descriptor = watch.descriptor
    watch.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert not watch.poll_peer_changes(ours.names)


def test_folder_is_watched_without_a_standard_input(tmp_path: Path) -> None:
    standard_input = os.dup(0)
    os.close(0)
    try:
        assert ReservationWatch(tmp_path).descriptor == 0
    finally:
        os.dup2(standard_input, 0)
        os.close(standard_input)


def test_without_inotify_nothing_is_watched(tmp_path: Path) -> None:
    assert ReservationWatch(tmp_path / "absent").descriptor == NOT_WATCHED
    assert not ReservationWatch(None).poll_peer_changes(())
    folder = tmp_path / "claims"
    folder.mkdir()
    watch = ReservationWatch(folder)
    folder.rmdir()
    assert watch.poll_peer_changes(())
    assert watch.descriptor == NOT_WATCHED


def test_overflow_of_the_event_queue_wakes_once(tmp_path: Path) -> None:
    watch = ReservationWatch(tmp_path)
    name = tmp_path / "launcher-claims.0.01234567.json"
    for _ in range(2000):
        name.touch()
        os.rename(name, tmp_path / "launcher-claims.0.12345678.json")  # noqa: PTH104  # as written
    assert watch.poll_peer_changes(())
    assert not watch.poll_peer_changes(())
    watch.close()
