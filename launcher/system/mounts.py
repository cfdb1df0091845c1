"""Mounted file systems: their types and mount points, and whether several machines write to one."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from launcher.system.files import read_bytes
from launcher.system.lazy_regex import compile_lazily

_NETWORK = (
    r"9p|afs|beegfs|ceph|cifs|coda|davfs|gfs2|glusterfs|gpfs|lustre|ncpfs|nfs4?|ocfs2|orangefs|panfs"
    r"|prl_fs|pvfs2|smb3|smbfs|vboxsf|wekafs|fuse\.(afp|beegfs|ceph|ceph-fuse|curlftpfs|davfs2?|gcsfuse"
    r"|glusterfs|goofys|juicefs|lizardfs|mfs|moosefs|quobyte|rclone|s3fs|seaweedfs|smbnetfs|sshfs)"
)  # types of file systems that several machines may write to at once
# blanks and backslashes of a path as the kernel writes them
_OCTAL_ESCAPE = compile_lazily(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """A file system, and where it can be seen."""

    root: str  # the folder of the file system that is mounted there
    mount_point: str
    kind: str


def parse_mounts(mountinfo: str) -> Iterator[Mount]:
    """Yield the mounted file systems; if two have the same mount point, the later one is visible.

    Args:
        mountinfo: mounts as /proc/self/mountinfo has it. Source: proc_pid_mountinfo(5).
    """
    for line in mountinfo.split("\n"):
        before, _, after = line.partition(" - ")
        fields, (kind, *more) = before.split(" "), after.split(" ")
        if more and len(fields) > 5:
            root, point = (
                _OCTAL_ESCAPE.sub(lambda match: chr(int(match[1], 8)), each) for each in fields[3:5]
            )
            yield Mount(root, point, kind)


def file_system(mountinfo: str, path: Path) -> str | None:
    """Return the type of the file system that contains a path; None if unknown.

    Args:
        mountinfo: the text of /proc/self/mountinfo.
        path: absolute and without links; nothing need exist there.
    """
    nearest = [
        (len(point.parts), number, mount.kind)
        for number, mount in enumerate(parse_mounts(mountinfo))
        if path.is_relative_to(point := Path(mount.mount_point))
    ]
    return max(nearest)[2] if nearest else None


def is_remote(kind: str | None) -> bool:
    """Return whether several machines may write to a file system of this type at once."""
    return kind is not None and re.fullmatch(_NETWORK, kind) is not None


def read_mountinfo() -> str:
    """Return the kernel's list of mounted file systems; empty if there is none."""
    try:
        return read_bytes("/proc/self/mountinfo").decode(errors="surrogateescape")
    except OSError:
        return ""
