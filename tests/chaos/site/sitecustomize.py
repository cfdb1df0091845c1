"""Changes the launcher's own processes from outside, for the proof: imported by every Python there.

CHAOS_DELAY_S  longest time that a supervisor loses before it creates its file `started`
CHAOS_DELAYED  the share of supervisors that lose any time at all
CHAOS_GUARD    `off`: that file is no longer created exclusively, and the proof must fail
"""

import os
import random
import sys
import time
from typing import Any

_open = os.open
_delay_s = float(os.environ.get("CHAOS_DELAY_S", "0"))
_delayed = float(os.environ.get("CHAOS_DELAYED", "0"))
_guarded = os.environ.get("CHAOS_GUARD") != "off"


def _meddled(path: Any, flags: int, *rest: Any, **options: Any) -> int:
    try:
        name = os.path.basename(os.fsdecode(path))  # noqa: PTH119  # pathlib costs every open
    except TypeError:  # a descriptor
        name = ""
    if name == "started" and flags & os.O_EXCL:
        if "launcher.workers.fork_server" in sys.orig_argv and _chance.random() < _delayed:
            time.sleep(_chance.uniform(0, _delay_s))
        if not _guarded:
            flags &= ~os.O_EXCL
    return _open(path, flags, *rest, **options)


_chance = random.SystemRandom()  # forks of one fork server must not all draw the same
if "CHAOS_DELAY_S" in os.environ:
    os.open = _meddled
