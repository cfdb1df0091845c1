"""Changes the launcher's own processes from outside, for the proof: imported by every Python there.

CHAOS_DELAY_S  longest time that a supervisor loses before it gives its order the name `started`
CHAOS_DELAYED  the share of supervisors that lose any time at all
CHAOS_GUARD    `off`: that name is no longer given exclusively, and the proof must fail
"""

import contextlib
import os
import random
import sys
import time
from typing import Any

_link = os.link
_delay_s = float(os.environ.get("CHAOS_DELAY_S", "0"))
_delayed = float(os.environ.get("CHAOS_DELAYED", "0"))
_guarded = os.environ.get("CHAOS_GUARD") != "off"


def _meddled(source: Any, target: Any, **options: Any) -> None:
    if os.path.basename(os.fsdecode(target)) != "started":  # noqa: PTH119  # as it is called
        _link(source, target, **options)
        return
    if "launcher.workers.fork_server" in sys.orig_argv and _chance.random() < _delayed:
        time.sleep(_chance.uniform(0, _delay_s))
    with contextlib.nullcontext() if _guarded else contextlib.suppress(FileExistsError):
        _link(source, target, **options)


_chance = random.SystemRandom()  # forks of one fork server must not all draw the same
if "CHAOS_DELAY_S" in os.environ:
    os.link = _meddled  # type: ignore[assignment]  # with fewer options than it has
