"""A scheduler of this version or a newer one: started if none lives, and asked to hand over if it is older."""

import signal
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import launcher
from launcher.errors import MachineError
from launcher.system.daemon_control import _exit_code, scheduler_pid, start_scheduler, wake
from launcher.system.files import Json, read_json
from launcher.system.log_files import last_lines
from launcher.system.paths import Home, check_home
from launcher.system.process_trees import send

if TYPE_CHECKING:
    from packaging import version

START_TIMEOUT_S = 15.0


class Version(NamedTuple):
    """A launcher as it is installed.

    Any number of installations on one queue folder have one order, so none takes a scheduler back
    that it has handed over.
    """

    text: str  # as PEP 440 has it, such as 0.3.0.dev1
    changed: int  # ns since 1970, when its youngest file was written; 0: not recorded

    def is_newer_than(self, other: "Version") -> bool:
        """Whether its number is higher or, if both have the same number, its code was changed later."""
        if self.has_higher_number_than(other):
            return True
        return self.changed > other.changed and not other.has_higher_number_than(self)

    def has_higher_number_than(self, other: "Version") -> bool:
        """Whether its version number is higher."""
        return self.text != other.text and _ordered(self.text) > _ordered(other.text)


def _ordered(text: str) -> "version.Version":
    """Return a version as PEP 440 orders it; an invalid one is older than all others."""
    from packaging import version  # 6 ms, only while two versions meet

    try:
        return version.Version(text)
    except version.InvalidVersion:
        return version.Version("0.dev0")


def this_version() -> Version:
    """Return the version of the code that runs here."""
    return Version(launcher.__version__, _youngest())


def version_of(record: Mapping[str, Json]) -> Version:
    """Return the version of a scheduler, as its record tells it."""
    changed = record.get("code")
    return Version(str(record.get("version", "")), changed if isinstance(changed, int) else 0)


@cache
def _youngest() -> int:
    """Return when the youngest file of our own code was written, in ns since 1970."""
    root = Path(launcher.__file__).parent
    files = [file for pattern in ("**/*.py", "**/*.sql") for file in root.glob(pattern)]
    return max((file.stat().st_mtime_ns for file in files), default=0)


def ensure_scheduler(home: Home) -> int:
    """Return the pid of a scheduler of this version or a newer one, started if none lives.

    Raises:
        MachineError: it does not come up; the message ends with its last output.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    starting: int | None = None
    while time.monotonic() < deadline:
        pid = scheduler_pid(home)
        if pid == 0:  # it cannot be seen from here, as it lives in another container
            check_home(home)
        if pid is not None:
            record = read_json(home.scheduler_record) or {}
            if record.get("pid") != pid:
                wake(home)  # its record was deleted: it writes another
                if time.monotonic() > deadline - START_TIMEOUT_S / 2:
                    return pid  # the disk is too full for its record
            elif "left" in record:
                pass  # it is on its way out
            elif not this_version().is_newer_than(version_of(record)):
                return pid
            else:
                send(pid, signal.SIGTERM)  # an older one hands over; its jobs run on
        elif starting is None:
            starting = start_scheduler(home)
        if starting is not None and (code := _exit_code(starting)) is not None:
            if code > 0:
                break
            starting = None  # it left to another one, or was killed
        time.sleep(0.005)
    raise MachineError(
        f"the scheduler does not start. Its log {home.scheduler_log} ends with:\n"
        + ("\n".join(last_lines(home.scheduler_log, 5)) or "(no log)")
    )
