"""Changes the launcher's own processes from outside, for the proof: imported by every Python there.

These environment variables configure the changes:

    CHAOS_DELAY_S: Longest delay in seconds of a supervisor before it links its order as `started`.
    CHAOS_DELAYED: Fraction of supervisors with a delay.
    CHAOS_DELAYS: File that gets one byte for each delayed supervisor.
    CHAOS_GUARD: If `off`, that name is no longer exclusive, and the proof must fail.
"""

import os
import random
import sys
import time
from typing import Any

_link = os.link
_delay_s = float(os.environ.get("CHAOS_DELAY_S", "0"))
_delayed = float(os.environ.get("CHAOS_DELAYED", "0"))
_delays = os.environ.get("CHAOS_DELAYS", os.devnull)
_guarded = os.environ.get("CHAOS_GUARD") != "off"


def _meddled(source: Any, target: Any, **options: Any) -> None:
    if os.path.basename(os.fsdecode(target)) != "started":  # noqa: PTH119  # as it is called
        _link(source, target, **options)
        return
    if "launcher.queue.workers.fork_server" in sys.orig_argv and _chance.random() < _delayed:
        _count()
        time.sleep(_chance.uniform(0, _delay_s))
    try:
        _link(source, target, **options)
    except FileExistsError:
        if _guarded:
            raise
        # the file there, a void perhaps, would be read in place of the order
        os.unlink(target)  # noqa: PTH108
        _link(source, target, **options)


def _count() -> None:
    file = os.open(_delays, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, b".")
    os.close(file)


_chance = random.SystemRandom()  # forks of one fork server must not all draw the same
if "CHAOS_DELAY_S" in os.environ:
    os.link = _meddled  # type: ignore[assignment]  # with fewer options than it has
