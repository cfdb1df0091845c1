"""Checks of a queue's home: on a local disk, accessible only to its user, of this machine. Also its earlier places."""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from launcher.system.errors import MachineError
from launcher.system.files import Json, read_json, write_json
from launcher.system.mounts import file_system, is_remote
from launcher.system.processes import boot_id, login_name, pid_namespace

FALLBACK_FOLDERS = Path("/var/tmp")  # local as good as everywhere, and kept over a reboot


def default_folder(state: Path, mountinfo: str, uid: int) -> Path:
    """Return where a user's queue lies: the state folder, or a local one when that is remote.

    Args:
        state: the user's state folder for this program, absolute and without links.
        mountinfo: the text of /proc/self/mountinfo.
        uid: the user.
    """
    if is_remote(file_system(mountinfo, state)):
        return FALLBACK_FOLDERS / f"launcher-{uid}"
    return state


def resolve_links(path: Path) -> Path:
    """Return where a path leads; the path itself when it leads nowhere."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # links in a circle
        return path


def network_warning(folder: Path, mountinfo: str) -> str | None:
    """Return a warning about a home on a network file system; None if it is on a local one.

    Args:
        folder: the home's.
        mountinfo: what `read_mountinfo` returns.
    """
    kind = file_system(mountinfo, resolve_links(folder))
    if not is_remote(kind):
        return None
    return (
        f"the queue folder {folder} is on a network file system ({kind}): use it from this "
        "machine only, or set LAUNCHER_HOME to a folder on a local disk"
    )


def check_owner(folder: Path) -> None:
    """Refuse a home that is not the user's own folder, and deny others access to an own one.

    Raises:
        MachineError: it is not a folder, or is another user's, or is reached over another user's link.
    """
    try:
        linked = folder.lstat()
        if stat.S_ISLNK(linked.st_mode) and (
            linked.st_uid != os.geteuid() or folder.parent == FALLBACK_FOLDERS
        ):  # the link's owner decides where it leads if every user may write there
            raise unusable_home_error(folder, f"is a link of {_user_name(linked.st_uid)}")
        there = folder.stat()
        if not stat.S_ISDIR(there.st_mode):
            raise unusable_home_error(folder, "is not a folder")
        if there.st_uid != os.geteuid():
            raise unusable_home_error(folder, f"belongs to {_user_name(there.st_uid)}")
        if stat.S_IMODE(there.st_mode) & 0o777 != 0o700:
            folder.chmod(0o700)
    except OSError as error:
        raise unreachable_home_error("use", folder, error) from error


def other_writers(path: Path) -> str:
    """Return a text on the others, except root, that may change or replace a file or folder; empty if there are none.

    In a folder with the sticky bit, such as /tmp, users cannot replace files of other users.
    """
    path = resolve_links(path)
    for place in (path, *path.parents):
        try:
            there = place.stat()
        except OSError:  # the folder does not exist yet
            continue
        mode, mine = there.st_mode, os.geteuid()
        if there.st_uid not in {0, mine}:
            return f"{place} belongs to {_user_name(there.st_uid)}"
        if stat.S_ISCHR(mode) or (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
            continue
        if mode & stat.S_IWOTH:
            return f"every user may write {place}"
        if mode & stat.S_IWGRP and (group := _group_name(there.st_gid)) not in {
            "root",
            login_name(mine),
        }:
            return f"group {group!r} may write {place}"  # a group with a user's name contains only this user
    return ""


def check_machine(record: Path, is_served: Callable[[], bool]) -> None:
    """Refuse a home of another machine or container; if the record names none, record this one.

    Processes of another PID namespace cannot be seen. So it would be unknown which of the queue's jobs run, and each
    would be started a second time. When none of them lives, as after a restart of the container or the
    machine, the home is assigned to the namespace that uses it next.

    Args:
        record: the home's file that names its machine and PID namespace.
        is_served: returns whether processes of this home live, here or in another namespace.

    Raises:
        MachineError: the home belongs to another machine or namespace, or cannot be written.
    """
    host = os.uname().nodename
    here: dict[str, Json] = {
        "schema": 1,
        "machine": machine_identity(),
        "host": host,
        "boot": boot_id(),
        "namespace": pid_namespace(),
    }
    owner: Mapping[str, Json] = {}
    try:
        owner = read_json(record) or {}
        known = {**owner} if _ID in owner else {**owner, **_new_identity(record.parent)}
        now = {**known, **here}
        if owner.get("machine", here["machine"]) == here["machine"] and owner != now:
            if _is_in_other_namespace(owner) and is_served():
                raise MachineError(_in_use_message(record.parent, owner["namespace"]))
            write_json(record, now, mode=0o600)
    except OSError as error:
        # if an older record names the machine, a failed write, as on a full disk, does not matter
        if "machine" not in owner:
            raise MachineError(
                f"cannot record the owner of the queue folder in {record}: {error.strerror}"
            ) from error
    if owner.get("machine", here["machine"]) != here["machine"]:
        raise MachineError(
            f"the queue folder {record.parent} belongs to machine {owner.get('host')!r}, and this "
            f"is {host!r}. Set LAUNCHER_HOME to a folder of this machine. If this machine was only "
            f"renamed or reinstalled, delete {record}."
        )


_ID, _FOLDER, _PATH = "id", "folder", "path"  # keys of a home's record


class Relocation(NamedTuple):
    """A home whose folder is not the one in which it was opened last."""

    former_folder: str  # the earlier folder, without links
    former_path: str  # the same folder, as it was named then
    is_copy: bool  # the original is still there, or that cannot be found out


def relocation(record: Path) -> Relocation | None:
    """Return from where a home was moved or copied since it was opened last; None if it was not.

    A home has a random ID, and its record says in which folder it was opened last. If that folder still holds a home
    with the same ID, this one is a copy. If it does not, this one was moved. Inodes decide nothing, so that other
    disks, mount points and links to the folder change nothing.

    Args:
        record: the home's file.
    """
    known = read_json(record) or {}
    before, here = known.get(_FOLDER), os.path.realpath(record.parent)
    if _ID not in known or not isinstance(before, str) or before == here:
        return None
    found = Relocation(before, str(known.get(_PATH, before)), is_copy=True)
    try:
        if Path(before).samefile(here):
            return None
        original = read_json(Path(before, record.name))
    except (FileNotFoundError, NotADirectoryError):
        return found._replace(is_copy=False)
    except OSError:  # the file exists and cannot be read
        return found
    is_copy = original is not None and original.get(_ID) == known[_ID]
    return found._replace(is_copy=is_copy)


def record_relocation(record: Path, relocation: Relocation) -> None:
    """Write in which folder a home is now; a copy gets an ID of its own.

    Raises:
        OSError: the disk is full.
    """
    known = read_json(record) or {}
    if relocation.is_copy:
        changes = {**_new_identity(record.parent), "copy_of": relocation.former_folder}
    else:
        changes = _home_place(record.parent)
    write_json(record, {**known, **changes}, mode=0o600)


def home_id(record: Path) -> str:
    """Return the ID of a home; empty if it has none yet."""
    return str((read_json(record) or {}).get(_ID, ""))


def _new_identity(folder: Path) -> dict[str, Json]:
    return {_ID: os.urandom(16).hex(), **_home_place(folder)}


def _home_place(folder: Path) -> dict[str, Json]:
    return {_FOLDER: os.path.realpath(folder), _PATH: str(folder)}


def _is_in_other_namespace(owner: Mapping[str, Json]) -> bool:
    """Return whether a home was last used in another PID namespace of this boot; False if its record is older."""
    if owner.get("boot") != boot_id() or None in (owner.get("namespace"), pid_namespace()):
        return False
    return owner["namespace"] != pid_namespace()


def _in_use_message(folder: Path, namespace: Json) -> str:
    return (
        f"the queue folder {folder} is in use in another container (PID namespace {namespace}, this "
        f"is {pid_namespace()}). Use it there, stop it there with `launcher stop --now`, or set "
        "LAUNCHER_HOME to another folder."
    )


def machine_identity(id_file: Path = Path("/etc/machine-id")) -> str:
    """Return an identifier of this machine: a hash of its ID, or of its name if it has no ID."""
    try:
        machine_id = id_file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        machine_id = ""
    if not re.fullmatch("[0-9a-f]{32}", machine_id):  # empty or 'uninitialized' in an image
        machine_id = os.uname().nodename
    # machine-id(5): the id itself is confidential, a program shows a hash of its own
    return hashlib.sha256(f"launcher {machine_id}".encode()).hexdigest()[:32]


def refuse_other_users_parent(folder: Path) -> None:
    """Refuse to make a home of root in the folder of another user, who could not use it afterwards.

    Raises:
        MachineError: the nearest existing folder above it belongs to another user.
    """
    if folder.exists():  # `check_owner` decides
        return
    there = next(above for above in folder.parents if above.exists())
    owner = there.stat().st_uid
    if owner != os.geteuid():
        raise MachineError(
            f"you are root, and {there} belongs to {_user_name(owner)}. Run this command as that user, with your "
            "own home directory (sudo -H), or set LAUNCHER_HOME."
        )


def unreachable_home_error(verb: str, folder: Path, error: OSError) -> MachineError:
    """Return the error for a home that cannot be made or used."""
    return MachineError(
        f"cannot {verb} the queue folder {folder}: {error.strerror}. "
        "Set LAUNCHER_HOME to a folder that you can write."
    )


def unusable_home_error(folder: Path, why: str) -> MachineError:
    """Return the error for a home that is not a folder, or is another user's."""
    ask = ", or ask root to delete this one" if folder.parent == FALLBACK_FOLDERS else ""
    return MachineError(
        f"the queue folder {folder} {why}. Set LAUNCHER_HOME, or `home` in config.toml, to a folder "
        f"of your own{ask}."
    )


def _group_name(gid: int) -> str:
    import grp  # a library of its own, and most folders are their user's alone

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _user_name(uid: int) -> str:
    name = login_name(uid)
    return f"user {uid}" if name == str(uid) else f"user {name!r}"
