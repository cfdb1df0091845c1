"""Input and result of one cycle of the scheduler: requests of users, and the time of the next cycle."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from launcher.queue.jobs.states import Reason
from launcher.queue.scheduler.policy.disciplines import DEFAULT_POLICY, SchedulingPolicy

POLL_S = 1.0  # while a job waits for memory that is not ours to give, or runs on a GPU
RETRY_S = 1.0  # seconds after a job could not be started, or an end not be stored: the disk is full
IDLE_S = 30.0  # longest sleep in seconds; only a missing queue folder and a set clock need it


Reasons = dict[int, Reason | None]  # lane → why its first job does not start; None: the job starts


@dataclass(slots=True)
class CycleResult:
    """What is left after a decision."""

    has_waiting: bool = False  # something could start if there were room
    max_sleep_s: float = IDLE_S  # longest sleep, also when nothing wakes us

    def wake_within(self, span_s: float) -> None:
        """Run the next cycle after at most `span_s` seconds."""
        self.max_sleep_s = min(self.max_sleep_s, max(0.0, span_s))


class ControlState(NamedTuple):
    """Requests of users to the scheduler."""

    home_is_gone: bool = False  # the queue folder was deleted, or its database is damaged
    stop: bool = False  # start nothing more
    stop_now: bool = False  # end running jobs, too
    pending_actions: Mapping[int, str] = {}  # job → action requested by its owner
    jobs_to_kill: frozenset[int] = frozenset()  # jobs of `pending_actions` that get no grace period
    paused_jobs: frozenset[int] = frozenset()  # jobs whose programs stand still
    group_limits: Mapping[str, int] = {}  # group → jobs at once
    policy: SchedulingPolicy = DEFAULT_POLICY  # the policy that the owner of the queue chose
