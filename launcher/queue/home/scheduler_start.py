"""A scheduler of this version or a newer one: started if none lives, and asked to hand over if it is older."""

import os
import signal
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import launcher
from launcher.queue.home.daemon_control import exit_code, scheduler_pid, start_scheduler, wake
from launcher.queue.home.paths import Home, check_home
from launcher.system.errors import MachineError
from launcher.system.files import Json, read_json
from launcher.system.log_files import last_lines
from launcher.system.process_trees import send_signal

if TYPE_CHECKING:
    from packaging import version

START_TIMEOUT_S = 15.0


class LauncherVersion(NamedTuple):
    """A launcher as it is installed.

    Any number of installations on one queue folder have one order, so none takes a scheduler back
    that it has handed over.
    """

    text: str  # as PEP 440 has the version, such as 0.3.0.dev1
    # ns since 1970, when the youngest file of launcher was written; 0: not recorded
    changed_ns: int

    def is_newer_than(self, other: "LauncherVersion") -> bool:
        """Whether its number is higher or, if both have the same number, its code was changed later."""
        if self.has_higher_number_than(other):
            return True
        return self.changed_ns > other.changed_ns and not other.has_higher_number_than(self)

    def has_higher_number_than(self, other: "LauncherVersion") -> bool:
        """Whether its version number is higher."""
        return self.text != other.text and _pep440_order(self.text) > _pep440_order(other.text)


def _pep440_order(text: str) -> "version.Version":
    """Return a version as PEP 440 orders it; an invalid one is older than all others."""
    from packaging import version  # 6 ms, only while two versions meet

    try:
        return version.Version(text)
    except version.InvalidVersion:
        return version.Version("0.dev0")


def this_version() -> LauncherVersion:
    """Return the version of the code that runs here."""
    return LauncherVersion(launcher.__version__, _newest_code_ns())


def version_of(record: Mapping[str, Json]) -> LauncherVersion:
    """Return the version of a scheduler from its record."""
    changed = record.get("code")
    return LauncherVersion(
        str(record.get("version", "")), changed if isinstance(changed, int) else 0
    )


@cache
def _newest_code_ns() -> int:
    """Return when the youngest file of our own code was written, in ns since 1970."""
    return max(
        (
            os.stat(name, dir_fd=folder).st_mtime_ns
            for _, _, names, folder in os.fwalk(Path(launcher.__file__).parent)
            for name in names
            if name.endswith((".py", ".sql"))
        ),
        default=0,
    )


def ensure_scheduler(home: Home) -> int:
    """Return the pid of a scheduler of this version or a newer one, started if none lives.

    Raises:
        MachineError: it does not come up; the message ends with its last output.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    starting: int | None = None
    while time.monotonic() < deadline:
        pid = scheduler_pid(home)
        if pid == 0:  # a scheduler in another container cannot be seen from here
            check_home(home)
        if pid is not None:
            record = read_json(home.scheduler_record) or {}
            if record.get("pid") != pid:
                wake(home)  # the scheduler's record was deleted: the scheduler writes another
                if time.monotonic() > deadline - START_TIMEOUT_S / 2:
                    return pid  # the disk is too full for the scheduler's record
            elif "left" in record:
                pass  # the scheduler is about to exit
            elif not this_version().is_newer_than(version_of(record)):
                return pid
            else:
                send_signal(pid, signal.SIGTERM)  # an older scheduler hands over; its jobs continue
        elif starting is None:
            starting = start_scheduler(home)
        if starting is not None and (code := exit_code(starting)) is not None:
            if code > 0:
                break
            starting = None  # the new scheduler left the queue to another one, or was killed
        time.sleep(0.005)
    raise MachineError(
        f"the scheduler does not start. Its log {home.scheduler_log} ends with:\n"
        + ("\n".join(last_lines(home.scheduler_log, 5)) or "(no log)")
    )
