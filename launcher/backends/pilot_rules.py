"""What is decided about pilots: how many are submitted, when, and when nothing of one lives any more.

Pure: what is known goes in, a decision comes out. Times are spans in seconds, so no clock can jump under them.

How fast pilots of a backend may follow each other, from what became of the last ones.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from launcher.backends.protocol import Stage

UNKNOWN_S = 30.0  # an engine that forgets a pilot may have been restarted: it is asked again
FORGET_S = 600.0  # a submission that hung may come through so late; then the pilot is cancelled
SPACING_S = 10.0  # between two submissions, after the first ones
MINUTE_S = 60.0
SILENT_BEATS = 3  # a pilot that misses so many is silent
LEAST_SILENCE_S = 2.0  # a node that is busy may be late by so much
LEASE_MARGIN = 1.1  # clocks of two machines run at slightly different speeds
START_S = (
    600.0  # a pilot that runs and says nothing for so long will not: its image is fetched by then
)
TRIES = 3  # pilots in a row that never spoke
FIRST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 3600.0
FIRST_RETRY_S, LONGEST_RETRY_S = 10.0, 600.0  # after an engine refused a submission
MOST_ELEMENTS = 1000  # of an array: Slurm's MaxArraySize is 1,001 where nobody has changed it
LONGEST_POLL_S = 60.0  # while an engine does not answer


class Demand(NamedTuple):
    """Work that waits for pilots of a backend."""

    jobs: int  # that would start if there were more pilots
    slots: int = 1  # so many of them run on one pilot at once
    paths: tuple[str, ...] = ()  # that these jobs need to see on the node

    @property
    def pilots(self) -> int:
        """How many pilots would take all of it."""
        return math.ceil(max(0, self.jobs) / max(1, self.slots))


NO_DEMAND = Demand(jobs=0)


class Life(StrEnum):
    """What the scheduler makes of a pilot, from what the engine says and from what the pilot says."""

    SUBMITTED = "submitted"  # the engine has not spoken of it yet
    WAITING = "waiting"  # in the engine's queue
    STARTING = "starting"  # on a node, and has not spoken yet
    RUNNING = "running"  # it speaks, whatever the engine says
    LEAVING = "leaving"  # it has taken its leave, and its processes end
    SILENT = "silent"  # it has spoken, and does not any more; it may live
    STRANDED = "stranded"  # the engine has ended it, but its node is silent, too: it may run on
    EXPIRED = "expired"  # its lease is over: it has ended all that ran there
    MISSING = "missing"  # the engine answers, and has not known it for long
    ENDED = "ended"


OVER = frozenset({Life.EXPIRED, Life.MISSING, Life.ENDED})  # what ran there is taken for lost
UNSPOKEN = frozenset({Life.SUBMITTED, Life.WAITING, Life.STARTING})


class Signs(NamedTuple):
    """What is known of one pilot."""

    stage: Stage | None  # as the engine said last; None: it has not been asked
    node_answers: bool = True
    unknown_s: float = 0.0  # for so long the engine has answered that it knows no such pilot
    spoke: bool = False
    bye: bool = False
    silent_s: float = 0.0
    gone: bool = False  # its engine does not answer, and its process is known to be over
    beat_s: float = 5.0
    lease_s: float | None = None


def is_silent(signs: Signs) -> bool:
    """Tell whether a pilot that has spoken should have spoken again by now."""
    return signs.silent_s > max(SILENT_BEATS * signs.beat_s, LEAST_SILENCE_S)


def is_lease_over(signs: Signs) -> bool:
    """Tell whether a pilot has certainly ended all that ran there, as nobody answered its beats.

    Its lease runs from when it sent the last beat that was answered, which was before that beat was read.
    """
    if signs.lease_s is None or not signs.spoke:
        return False
    return signs.silent_s > LEASE_MARGIN * signs.lease_s + max(signs.beat_s, LEAST_SILENCE_S)


def life_of(signs: Signs) -> Life:
    """Return what to make of a pilot; whoever speaks is alive, and who is unknown for a moment is not gone."""
    if signs.spoke and not signs.bye and not is_silent(signs):
        return Life.RUNNING
    missing = signs.stage is Stage.UNKNOWN and signs.unknown_s >= UNKNOWN_S
    if missing or signs.stage is Stage.ENDED or signs.gone:
        sure = (
            signs.gone or signs.node_answers or signs.bye or is_lease_over(signs) or not signs.spoke
        )
        over = Life.MISSING if missing else Life.ENDED
        return over if sure else Life.STRANDED
    if is_lease_over(signs):
        return Life.EXPIRED
    if signs.bye:
        return Life.LEAVING
    if signs.spoke:
        return Life.SILENT
    if signs.stage is Stage.WAITING:
        return Life.WAITING
    return Life.STARTING if signs.stage is Stage.RUNNING else Life.SUBMITTED


def surplus(demand: Demand, *, waiting: int, starting: int) -> int:
    """Return how many of the pilots that wait in an engine's queue nobody needs any more."""
    return max(0, min(waiting, waiting + starting - demand.pilots))


def pause_s(failures: int) -> float:
    """Return how long nothing is submitted after so many pilots in a row that never spoke."""
    return _doubled(FIRST_PAUSE_S, failures - TRIES, LONGEST_PAUSE_S) if failures >= TRIES else 0.0


def retry_s(refusals: int) -> float:
    """Return how long nothing is submitted after an engine refused so many times in a row."""
    return _doubled(FIRST_RETRY_S, refusals - 1, LONGEST_RETRY_S) if refusals > 0 else 0.0


def poll_s(usual_s: float, errors: int) -> float:
    """Return after how long an engine is asked again that did not answer so many times in a row."""
    return max(usual_s, _doubled(usual_s, errors, LONGEST_POLL_S))


def _doubled(first_s: float, times: int, longest_s: float) -> float:
    return min(longest_s, first_s * 2.0 ** min(times, 32))


@dataclass(slots=True, kw_only=True)
class Pace:
    """The submissions of a backend, and why the next one waits."""

    failures: int = 0  # pilots in a row that never spoke
    failure: str = ""  # how the last of them ended
    log: str | None = None  # the last lines of what it printed; None: not read yet
    proven: bool = False  # the last one spoke: pilots can start there
    refusal: str = ""  # what the engine said to the last submission; '': it took it
    times: deque[float] = field(default_factory=deque)  # of the last minute's submissions
    newest: float = -math.inf  # likewise, of the last one
    _not_before: float = -math.inf
    _refusals: int = 0

    def number(
        self,
        demand: Demand,
        now: float,
        *,
        held: int,
        unspoken: int,
        most: int,
        per_minute: int,
        single: bool = False,
    ) -> int:
        """Return how many pilots to submit now.

        The first ones come at once, further ones one at a time: by then the first may have done the work. Until a
        pilot has spoken, no more are tried than may fail before the pause.

        Args:
            demand: the work that waits.
            now: by a clock that nobody sets.
            held: pilots that are there, or may be.
            unspoken: of these: will take work, and have not spoken yet.
            most: pilots of the backend at once.
            per_minute: submissions in a minute.
            single: each pilot is for one job, and all that are submitted now are one submission.
        """
        room = min(most - held, per_minute - self._last_minute(now))
        if single and room > 0:
            room = min(most - held, MOST_ELEMENTS)
        if not self.proven:
            tried = MOST_ELEMENTS if single and not self.failures else TRIES
            room = min(room, max(1, tried - self.failures) - unspoken)
        number = max(0, min(demand.pilots - unspoken, room))
        if not held and not self.failures:
            return number
        if now - self.newest < SPACING_S:
            return 0
        return number if single and not self.failures else min(1, number)

    def wait_s(self, now: float, *, held: int, per_minute: int) -> float:
        """Return how long limits of time, failures and refusals forbid a submission."""
        wait_s = SPACING_S - (now - self.newest) if held or self.failures else 0.0
        if self._last_minute(now) >= per_minute:
            wait_s = max(wait_s, MINUTE_S - (now - self.times[0]))
        return max(wait_s, self.pause_s(now))

    def _last_minute(self, now: float) -> int:
        """Return how many submissions the last minute had."""
        while self.times and now - self.times[0] >= MINUTE_S:
            self.times.popleft()
        return len(self.times)

    def submitted(self, number: int, at: float) -> None:
        """Note that pilots were submitted, or may have been."""
        self.times.extend([at] * number)
        self.newest = max(at, self.newest)

    def accepted(self) -> None:
        """Note that the engine took a submission."""
        self._refusals, self.refusal = 0, ""

    def refused(self, why: str, now: float) -> None:
        """Note that it did not."""
        self._refusals += 1
        self.refusal = why
        self._not_before = max(self._not_before, now + retry_s(self._refusals))

    def spoke(self) -> None:
        """Note that a pilot spoke, and can do its work."""
        self.failures, self.failure, self.log, self.proven = 0, "", None, True
        if not self._refusals:
            self._not_before = -math.inf

    def failed(self, why: str, now: float) -> None:
        """Note that a pilot ended, or was given up, before it could do any work."""
        self.failures, self.proven = self.failures + 1, False
        self.failure = why
        self._not_before = max(self._not_before, now + pause_s(self.failures))

    def forget(self) -> None:
        """Begin anew, as what the pilots are started with is another now; how many there were still counts."""
        self.failures, self._refusals, self.proven = 0, 0, False
        self.failure, self.log, self.refusal = "", None, ""
        self._not_before = -math.inf

    def pause_s(self, now: float) -> float:
        """Return how long failures and refusals forbid a submission."""
        return max(0.0, self._not_before - now)
