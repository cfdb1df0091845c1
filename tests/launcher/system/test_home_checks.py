import errno
import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.queue.home.home_checks import (
    FALLBACK_FOLDERS,
    default_folder,
    machine_identity,
    network_warning,
    other_writers,
)
from launcher.queue.home.paths import Home, check_home, find_home, make_home
from launcher.queue.store.queue import Store
from launcher.system.errors import MachineError, UsageError
from launcher.system.files import Json, read_json, write_json
from launcher.system.locks import is_in_use, lock_file, mark_in_use
from launcher.system.mounts import file_system, is_remote, read_mountinfo
from launcher.system.processes import boot_id
from tests.launcher.users import NOBODY, as_user, said_by

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 27 0:40 / /home rw,relatime shared:2 master:3 - nfs4 server:/home rw,vers=4.2
31 30 8:1 / /home/ada/my\040disk rw - xfs /dev/sda1 rw
32 27 0:41 / /scratch rw - tmpfs tmpfs rw
33 27 0:42 / /scratch rw - lustre mgs:/scratch rw
34 27 0:43 / /mnt/back\134slash rw - fuse.sshfs other:/ rw
35 27 0:44 / /mnt/a\040-\040b rw - cifs //server/share rw
"""

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users can access. The folder of a test is in a private one."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_nobody(work: Callable[[], object]) -> str:
    """Do something as a user without rights; return what came of it, or the error's name and text."""
    return said_by(as_user(NOBODY, work))


# --- where it is


@pytest.mark.parametrize(
    ("text", "path", "kind"),
    [
        (MOUNTS, "/", "ext4"),
        (MOUNTS, "/var/lib", "ext4"),
        (MOUNTS, "/home", "nfs4"),
        (MOUNTS, "/home/ada/.local/state/launcher", "nfs4"),
        (MOUNTS, "/homework", "ext4"),
        (MOUNTS, "/home/ada/my disk/queue", "xfs"),
        (MOUNTS, "/scratch/ada", "lustre"),
        (MOUNTS, "/mnt/back\\slash/x", "fuse.sshfs"),
        (MOUNTS, "/mnt/a - b", "cifs"),
        *((text, "/home", None) for text in ("", "nonsense", "1 2 3 4 / rw - ext4", "\n\n")),
        (read_mountinfo(), "/proc/self", "proc"),  # the kernel's own text
    ],
)
def test_file_system_of_a_path_is_that_of_the_nearest_mount(
    text: str, path: str, kind: str | None
) -> None:
    assert file_system(text, Path(path)) == kind


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
def test_mount_point_is_decoded_as_the_kernel_writes_it(name: str) -> None:
    point = Path("/mnt") / name
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\#" else c for c in str(point))
    line = f"36 27 0:9 / {escaped} rw - nfs server:/ rw"
    assert file_system(f"{MOUNTS}{line}\n", point / "queue") == "nfs"


@pytest.mark.parametrize(
    ("kind", "remote"),
    [
        *((kind, True) for kind in ["nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs"]),
        *((kind, True) for kind in ["ceph", "afs", "9p", "fuse.sshfs", "fuse.glusterfs"]),
        *((kind, False) for kind in ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs"]),
        *((kind, False) for kind in ["fuseblk", "fuse.mergerfs", "nfsd", None]),
    ],
)
def test_network_file_systems_are_distinguished_from_local_ones(
    kind: str | None, remote: bool
) -> None:
    assert is_remote(kind) is remote


def test_state_folder_on_the_network_is_replaced_by_a_local_one() -> None:
    remote, local = Path("/home/ada/.local/state/launcher"), Path("/home/ada/my disk/launcher")
    assert default_folder(remote, MOUNTS, 1000) == Path("/var/tmp/launcher-1000")
    assert default_folder(local, MOUNTS, 1000) == local
    assert default_folder(remote, "", 1000) == remote


def test_environment_names_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path / "state")}
    assert find_home(environ).folder == tmp_path / "state" / "launcher"
    assert find_home({**environ, "LAUNCHER_HOME": ""}).folder == tmp_path / "state" / "launcher"
    assert find_home({**environ, "LAUNCHER_HOME": "/elsewhere"}).folder == Path("/elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    relative = find_home({"XDG_STATE_HOME": "state"})
    assert relative.folder == tmp_path / ".local" / "state" / "launcher"
    with pytest.raises(UsageError, match="absolute"):
        find_home({"LAUNCHER_HOME": "here"})


def test_home_on_the_network_is_warned_about(tmp_path: Path) -> None:
    warning = network_warning(Path("/home/ada/queue"), MOUNTS)
    assert warning is not None
    assert "/home/ada/queue" in warning
    assert "nfs4" in warning
    assert network_warning(Path("/var/queue"), MOUNTS) is None


def test_link_to_the_network_is_resolved(tmp_path: Path) -> None:
    (tmp_path / "queue").symlink_to("/scratch/queue")
    assert network_warning(tmp_path / "queue", MOUNTS) is not None


# --- whose it is


def test_new_home_is_private_and_belongs_to_this_machine(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "home")
    make_home(home)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (home.folder, home.record)}
    assert modes == {home.folder: 0o700, home.record: 0o600}
    record = read_json(home.record) or {}
    assert re.fullmatch("[0-9a-f]{32}", str(record.pop("id")))
    assert record == {
        "folder": str(home.folder.resolve()),
        "path": str(home.folder),
        "schema": 1,
        "machine": machine_identity(),
        "host": os.uname().nodename,
        "boot": boot_id(),
        "namespace": Path("/proc/self/ns/pid").stat().st_ino,
    }
    check_home(home)


def test_machine_id_is_not_shown(tmp_path: Path) -> None:
    secret = "0123456789abcdef0123456789abcdef"
    (tmp_path / "machine-id").write_text(f"{secret}\n")
    shown = machine_identity(tmp_path / "machine-id")
    assert shown != machine_identity()
    assert secret not in shown
    assert secret.startswith(shown) is False


@pytest.mark.parametrize("content", [None, "", "uninitialized\n", "\xff\xfe"])
def test_machine_without_an_id_is_identified_by_its_name(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "machine-id").write_text(content, encoding="latin-1")
    assert machine_identity(tmp_path / "machine-id") == machine_identity(tmp_path / "none")


def test_home_without_a_record_is_assigned_to_this_machine(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.folder.mkdir()
    home.database.touch()
    check_home(home)
    assert (read_json(home.record) or {})["machine"] == machine_identity()


def test_home_readable_by_others_is_made_private(home: Home) -> None:
    home.folder.chmod(0o777)
    check_home(home)
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("use", [make_home, check_home])
def test_file_is_not_a_home(tmp_path: Path, use: Callable[[Home], None]) -> None:
    (tmp_path / "home").write_text("mine")
    with pytest.raises(MachineError, match=r"home.*(not a folder|File exists)"):
        use(Home(tmp_path / "home"))


def test_missing_home_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="/none: No such file"):
        check_home(Home(tmp_path / "none"))


def test_users_own_link_to_an_own_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "home").symlink_to("disk")
    make_home(Home(tmp_path / "home"))
    assert (tmp_path / "disk" / "home.json").exists()


def test_link_in_a_world_writable_folder_is_refused(tmp_path: Path) -> None:
    link = Path(tempfile.mktemp(prefix="launcher-test-", dir=FALLBACK_FOLDERS))
    link.symlink_to(tmp_path)
    tmp_path.chmod(0o755)
    try:
        with pytest.raises(MachineError, match="is a link"):
            make_home(Home(link))
    finally:
        link.unlink()
    assert list(tmp_path.iterdir()) == []
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@root_only
def test_link_of_another_user_is_refused(public: Path, tmp_path: Path) -> None:
    link = public / "home"
    link.symlink_to(tmp_path)
    os.lchown(link, NOBODY, NOBODY)
    with pytest.raises(MachineError, match=r"is a link of user "):
        make_home(Home(link))
    assert list(tmp_path.iterdir()) == []


@root_only
@pytest.mark.parametrize("use", [make_home, check_home])
def test_folder_of_another_user_is_refused(public: Path, use: Callable[[Home], None]) -> None:
    folder = public / "home"
    folder.mkdir(mode=0o777)
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(MachineError, match=r"belongs to user .*LAUNCHER_HOME"):
        use(Home(folder))
    assert list(folder.iterdir()) == []


@root_only
def test_other_users_can_neither_read_nor_write_a_home(public: Path) -> None:
    home = Home(public / "home")
    make_home(home)
    home.database.touch(mode=0o600)
    assert "PermissionError" in as_nobody(lambda: list(home.folder.iterdir()))
    assert "PermissionError" in as_nobody(home.database.read_bytes)
    assert "PermissionError" in as_nobody(lambda: (home.attempts / "1-1").mkdir())
    assert "MachineError" in as_nobody(lambda: check_home(home))
    assert "MachineError" in as_nobody(lambda: make_home(home))


@root_only
def test_read_only_home_is_named(public: Path) -> None:
    said = as_nobody(lambda: make_home(Home(public / "home")))
    assert said.startswith("MachineError: cannot make the queue folder")
    assert "Permission denied. Set LAUNCHER_HOME" in said


@root_only
@pytest.mark.parametrize(
    ("mode", "uid", "group", "said"),
    [
        (0o755, 0, "root", ""),
        (0o775, 0, "root", ""),  # a group of its user's name
        (0o1777, 0, "root", ""),  # nobody replaces what another user made
        (0o777, 0, "root", "every user may write {place}"),
        (0o775, 0, "daemon", "group 'daemon' may write {place}"),
        (0o755, NOBODY, "root", "{place} belongs to user 'nobody'"),
    ],
)
@pytest.mark.parametrize("below", ["", "ada/launcher/config.toml"])
def test_users_able_to_replace_a_file_or_folder_are_named(
    mode: int, uid: int, group: str, said: str, below: str, public: Path
) -> None:
    place = public / "lab"
    (place / below).mkdir(parents=True)
    shutil.chown(place, uid, group)
    place.chmod(mode)
    assert other_writers(place / below) == said.format(place=place)
    assert other_writers(place / "not" / "there") == said.format(place=place)
    assert other_writers(Path(os.devnull)) == ""


def test_truncated_machine_record_is_rewritten(home: Home) -> None:
    home.record.write_text('{"schema": 1, "mach')
    check_home(home)
    assert json.loads(home.record.read_text())["machine"] == machine_identity()


def test_home_in_use_is_reported_to_cleanup_only_while_in_use(home: Home) -> None:
    assert not is_in_use(home.folder)
    lives = [mark_in_use(home.folder), mark_in_use(home.folder)]  # a scheduler, and a fork server
    for descriptor in lives:
        assert descriptor is not None
        assert is_in_use(home.folder)  # systemd-tmpfiles asks for the same lock
        os.close(descriptor)
    assert not is_in_use(home.folder)


def test_unused_home_of_another_namespace_is_taken_over(home: Home) -> None:
    ours = read_json(home.record) or {}
    write_json(home.record, {**ours, "namespace": 1})
    lives = mark_in_use(home.folder)
    assert lives is not None
    with pytest.raises(MachineError, match=r"in another container \(PID namespace 1, this is"):
        check_home(home)
    # after a reboot it means nothing, and a record may lack it
    identity = {name: ours[name] for name in ("id", "folder", "path")}
    others: tuple[dict[str, Json], ...] = ({"namespace": 1, "boot": "another"}, {})
    for known in others:
        write_json(home.record, {"machine": ours["machine"], **identity, **known})
        check_home(home)
        assert read_json(home.record) == ours
    write_json(home.record, {**ours, "namespace": 1})
    os.close(lives)
    check_home(home)
    assert read_json(home.record) == ours


@root_only
def test_root_makes_no_home_in_the_home_directory_of_another_user(
    public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAUNCHER_HOME", raising=False)
    os.chown(public, NOBODY, NOBODY)
    home = Home(public / ".local" / "state" / "launcher")
    with pytest.raises(MachineError, match=rf"you are root, and {public} belongs to user"):
        make_home(home)
    assert not [*public.iterdir()]
    monkeypatch.setenv("LAUNCHER_HOME", str(home.folder))
    make_home(home)  # root asked for this folder
    assert home.attempts.is_dir()


@pytest.mark.parametrize("is_held", [True, False])
def test_only_a_held_lock_counts_as_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_held: bool
) -> None:
    number = errno.EAGAIN if is_held else errno.ENOLCK

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    if is_held:
        assert lock_file(tmp_path / "lock") is None
        return
    with pytest.raises(MachineError, match="does not support file locks"):
        lock_file(tmp_path / "lock")
    home = Home(tmp_path / "home")
    make_home(home)
    with pytest.raises(MachineError, match="does not support file locks"):
        Store(home)
