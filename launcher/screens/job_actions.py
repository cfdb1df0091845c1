"""What a user may do to a job, or to several, from a screen: the question first, then exactly what a verb does.

Several jobs are one question, one answer, one transaction.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from launcher.errors import counted
from launcher.job_options.value_types import PRIORITY
from launcher.screens.format import harmless, named, pause_reason, reserved_text
from launcher.screens.text_table import Line, Span, Tone, line, shortened, width_of
from launcher.states import ENDED, OPEN, State
from launcher.store.client import set_off
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.store.steering import Steering
from launcher.system.daemon_control import wake
from launcher.system.paths import Home
from launcher.system.scheduler_start import ensure_scheduler

LEAST_NAME = 12  # columns of a job's name in a question
ANSWERS = "  y/n"
READ_ONLY = "read only: jobs cannot be changed from here"
_Act = Callable[[Store, JobRow, float], list[int]]  # in the database; returns the jobs concerned
_PRIORITY_MATTERS = ": only waiting jobs have a priority"
_CANCEL = "c"
_REFUSALS = {
    ("h", State.RUNNING): "a running job cannot be held; p pauses it, c cancels it",
    ("r", State.DONE): "job {0} is done. To run it again: launcher retry {0} --force",
}


class _Action(NamedTuple):
    """A change of a job that the user must confirm."""

    job: JobRow
    verb: str  # as in the question: "cancel job"
    done: str  # as in the answer: "cancelled"
    change: _Act
    after: Callable[[Home], object]  # may take seconds, and touches no database
    tail: str = "?"  # what follows the job's name

    def asked(self, name: str) -> str:
        """Return what is asked, with as much of the job's name."""
        return f"{self.verb} {self.job.id} {name}{self.tail}"

    def told(self, touched: Sequence[int], home: Home) -> str:
        """Return what was done, for people.

        Args:
            touched: the jobs that it concerned; at least one.
            home: the queue's.
        """
        more = len(touched) - 1
        also = f", and {more:,} more" if more else ""
        stays = home.stop.exists() and self.done == "released"
        note = ". The queue is stopped. To start it: launcher start" if stays else ""
        return f"job {self.job.id} {harmless(self.job.name)} {self.done}{also}{note}"


def _proposed(key: str, job: JobRow, store: Store) -> _Action | str:
    """Return what a key would do to a job, or why that cannot be.

    Args:
        key: one of KEYS.
        job: as the queue knows it now.
        store: is only read.
    """
    rule = _RULES[key]
    action = _Action(job, f"{rule.many} job", rule.did, rule.change, rule.after)
    refusal = f"job {job.id} is {job.state}{rule.only}"
    if job.state not in rule.states:
        return _REFUSALS.get((key, job.state), refusal).format(job.id)
    return action if rule.details is None else rule.details(action, store)


def _pausing(action: _Action, store: Store) -> _Action | str:
    job = action.job
    if job.paused is not None:
        return f"job {job.id} is already paused; u resumes it"
    if job.wish:
        return f"job {job.id} is about to end"
    attempt = store.read.newest_attempts([job.id])[job.id]
    if attempt.pilot:
        return "a job on a cluster node cannot be paused: its allocation would expire"
    kept = reserved_text(attempt.device, attempt.claim)
    return action._replace(tail=f"? {kept}", done=f"paused; {kept}") if kept else action


def _pause(store: Store, job: JobRow, now: float) -> list[int]:
    """Pause a job where it runs now; it may have been started anew, elsewhere, since it was asked about."""
    with store.writing():
        attempt = store.read.newest_attempts([job.id]).get(job.id)
        if attempt is None or attempt.pilot:
            return []
        reason = pause_reason(attempt.device, attempt.claim, now)
        return store.steering.pause({job.id: reason}, now)


def _resuming(action: _Action, _store: Store) -> _Action | str:
    if action.job.paused is None:
        return f"job {action.job.id} is not paused"
    return action._replace(done="resumed")


def _cancelling(action: _Action, store: Store) -> _Action:
    if action.job.state is State.RUNNING:
        action = action._replace(verb="end running job", done="will end", after=_wake_or_start)
    needy = len(store.read.dependants_of([action.job.id]))
    return action._replace(tail=f"? {_skipped(needy, 'it')}") if needy else action


def _skipped(needy: int, what: str) -> str:
    return (
        f"{counted(needy, 'job')} that {'needs' if needy == 1 else 'need'} {what} will be skipped"
    )


def _retrying(action: _Action, store: Store) -> _Action:
    others = len(store.steering.again([action.job.id])) - 1
    verb = "belongs" if others == 1 else "belong"
    if others:
        action = action._replace(tail=f" with {counted(others, 'job')} that {verb} to it?")
    held = store.steering.held_before([action.job.id])
    return action._replace(done="held again") if held else action


def _reprioritising(action: _Action, _store: Store, *, by: int) -> _Action | str:
    job, priority = action.job, action.job.priority + by
    if PRIORITY.value_of(str(priority), 0.0) is None:
        return f"job {job.id} already has the limit of the priority, {job.priority}"
    tail, done = f": {job.priority} → {priority}?", f"given priority {priority}"
    return action._replace(verb="priority of job", tail=tail, done=done)


def _prioritise(store: Store, job: JobRow, _now: float, *, by: int) -> list[int]:
    return store.steering.prioritise([job.id], job.priority + by)


def _wake_or_start(home: Home) -> None:
    """Let the scheduler act on what runs; start one where none lives."""
    wake(home)
    ensure_scheduler(home)


def _go_on(home: Home) -> None:
    """Let a queue that was stopped go on, as it does when jobs are queued."""
    home.stop.unlink(missing_ok=True)
    set_off(home)


def _by(change: Callable[[Steering, list[int], float], list[int]]) -> _Act:
    """Return a change of one job that is one of the store's."""
    return lambda store, job, now: change(store.steering, [job.id], now)


class _Rule(NamedTuple):
    """What a key does."""

    states: frozenset[State]  # of the jobs to which it can be done
    only: str  # why it cannot be done to another, behind its state
    many: str  # in the question, before the number of jobs
    did: str  # in the answer, behind it
    change: _Act
    after: Callable[[Home], object]
    details: Callable[[_Action, Store], _Action | str] | None = None


_RUNS, _WAITS = frozenset({State.RUNNING}), OPEN - {State.RUNNING}
_RULES: Mapping[str, _Rule] = {
    "h": _Rule(
        frozenset({State.QUEUED}),
        ": only a queued job can be held",
        "hold",
        "held",
        _by(Steering.hold),
        wake,
        lambda action, _: action._replace(tail="? It starts only after it is released"),
    ),
    "l": _Rule(
        frozenset({State.HELD}),
        ": only a held job can be released",
        "release",
        "released",
        _by(Steering.release),
        set_off,
    ),
    "p": _Rule(
        _RUNS,
        ": only a running job can be paused",
        "pause",
        "paused",
        _pause,
        _wake_or_start,
        _pausing,
    ),
    "u": _Rule(
        _RUNS,
        ": only a paused job can be resumed",
        "resume",
        "resumed",
        _by(Steering.resume),
        _wake_or_start,
        _resuming,
    ),
    _CANCEL: _Rule(
        OPEN,
        ", so there is nothing to cancel",
        "cancel",
        "cancelled",
        _by(Steering.cancel),
        wake,
        _cancelling,
    ),
    "r": _Rule(
        ENDED - {State.DONE},
        ": only ended jobs can be retried",
        "retry",
        "queued again",
        _by(Steering.retry),
        _go_on,
        _retrying,
    ),
    "+": _Rule(
        _WAITS,
        _PRIORITY_MATTERS,
        "raise the priority of",
        "given a higher priority",
        partial(_prioritise, by=1),
        wake,
        partial(_reprioritising, by=1),
    ),
    "-": _Rule(
        _WAITS,
        _PRIORITY_MATTERS,
        "lower the priority of",
        "given a lower priority",
        partial(_prioritise, by=-1),
        wake,
        partial(_reprioritising, by=-1),
    ),
}
KEYS = {key: rule.many.partition(" ")[0] for key, rule in _RULES.items()}  # key → verb


class Change(NamedTuple):
    """A change of one job, or of several, that the user must confirm."""

    actions: tuple[_Action, ...]  # in the order in which they are done
    did: str = ""  # in the answer about several
    asked: str = ""  # of several jobs

    @property
    def text(self) -> str:
        """What is asked, with a job's whole name."""
        action = self.actions[0]
        return self.asked or action.asked(harmless(action.job.name))

    def question(self, width: int) -> Line:
        """Return what is asked, in one line; a job's name gives way where there is little room."""
        room = max(1, width - width_of(ANSWERS))
        text = self.asked
        if not text:
            action = self.actions[0]
            left = max(LEAST_NAME, room - width_of(action.asked("")))
            text = action.asked(shortened(harmless(action.job.name), left, middle=True))
        return Line((*line(text, Tone.WARN).cut(room).spans, Span(ANSWERS, Tone.STRONG)))

    def act(self, store: Store) -> list[int]:
        """Change all of them in one transaction; return the jobs that this concerned."""
        with store.writing():
            now = time.time()
            return [job for each in self.actions for job in each.change(store, each.job, now)]

    def after(self, home: Home) -> None:
        """Let the scheduler know; may take seconds."""
        for follow_up in dict.fromkeys(action.after for action in self.actions):
            follow_up(home)

    def report(self, touched: Sequence[int], home: Home) -> Line:
        """Return what was done; jobs that changed meanwhile are named."""
        # the oldest first
        missed = [action.job for action in self.actions if action.job.id not in touched][::-1]
        if not self.asked:
            if missed:
                text = f"job {missed[0].id} changed in the meantime. Nothing was done"
                return line(text, Tone.WARN)
            return line(self.actions[0].told(touched, home), Tone.GOOD)
        changed = len(self.actions) - len(missed)
        text = f"{counted(changed, 'job')} {self.did}" if changed else "nothing was done"
        if more := len({*touched}) - changed:
            text += f", and {more:,} more with them"
        if not missed:
            return line(text, Tone.GOOD)
        return line(f"{text}; changed meanwhile: {named(missed)}", Tone.WARN)


def propose(key: str, jobs: Sequence[JobRow], store: Store) -> Change | str:
    """Return what a key would do to jobs, or why that can be done to none of them.

    Args:
        key: one of KEYS.
        jobs: as the queue knows them now; at least one.
        store: is only read.
    """
    # the newest first: what needs another of them is changed itself, not with that
    ordered = sorted(jobs, key=lambda job: job.id, reverse=True)
    proposals = [_proposed(key, job, store) for job in ordered]
    actions = tuple(proposal for proposal in proposals if isinstance(proposal, _Action))
    refusals = [proposal for proposal in proposals if isinstance(proposal, str)]
    if len(jobs) == 1:
        return Change(actions) if actions else refusals[0]
    if not actions:
        return f"none of {counted(len(jobs), 'marked job')}: {refusals[-1]}"
    text = f"{_RULES[key].many} {counted(len(actions), 'job')}?"
    if key == _CANCEL:
        text += "".join(f" {detail}." for detail in _ends(actions, store))
    if refusals:
        left = "stays" if len(refusals) == 1 else "stay"
        text += f" {len(refusals):,} {left} unchanged: {refusals[-1]}"
    return Change(actions, _RULES[key].did, text)


def _ends(actions: Sequence[_Action], store: Store) -> Iterator[str]:
    """Return what a cancellation does beside what it says."""
    jobs = {action.job.id for action in actions}
    if runs := sum(action.job.state is State.RUNNING for action in actions):
        yield f"{runs:,} of them {'runs' if runs == 1 else 'run'}"
    if needy := {row.id for row in store.read.dependants_of(jobs)} - jobs:
        yield _skipped(len(needy), "them")


def one_line(error: Exception) -> str:
    """Return what went wrong, for a screen."""
    return harmless(" ".join(str(error).split())) or type(error).__name__
