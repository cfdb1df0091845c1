"""What a user may do to a job, or to several, from a screen: the question first, then exactly what a verb does.

Several jobs are one question, one answer, one transaction. The rules are those of launcher/frontends/screens/job_changes.py.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from launcher.frontends.screens.job_changes import (
    CANCEL,
    ENDED,
    HELD_AGAIN,
    HOLD,
    PAUSE,
    PRIORITY,
    RELEASE,
    RESUME,
    RETRY,
    ChangeRule,
    skipped_text,
)
from launcher.queue.home.paths import Home
from launcher.queue.job_options.value_types import PRIORITY as PRIORITY_VALUES
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.texts import format_job_names
from launcher.system.errors import pluralize
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import TextLine, TextSpan, TextStyle, line, shorten, width_of

LEAST_NAME = 12  # columns of a job's name in a question
ANSWERS = "  y/n"
READ_ONLY = "read only: jobs cannot be changed from here"
_Act = Callable[[Store, JobRow, float], list[int]]  # in the database; returns the jobs concerned
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
    rule: ChangeRule
    tail: str = "?"  # text after the job's name

    def question_text(self, name: str) -> str:
        """Return what is asked, with as much of the job's name."""
        return f"{self.verb} {self.job.id} {name}{self.tail}"

    def report(self, touched_jobs: Sequence[int], home: Home) -> str:
        """Return what was done, for people.

        Args:
            touched_jobs: the jobs that it concerned; at least one.
            home: the queue's.
        """
        more = len(touched_jobs) - 1
        also = f", and {more:,} more" if more else ""
        stays = home.stop_record.exists() and self.rule is RELEASE
        note = ". The queue is stopped. To start it: launcher start" if stays else ""
        return f"job {self.job.id} {sanitize_terminal(self.job.name)} {self.done}{also}{note}"


def _propose_one(key: str, job: JobRow, store: Store) -> _Action | str:
    """Return the action of a key on a job, or the reason why it is impossible.

    Args:
        key: one of KEYS.
        job: job as recorded in the queue now.
        store: is only read.
    """
    action_of = _ACTIONS[key]
    rule = action_of.rule
    if job.state not in rule.states:
        refusal = f"job {job.id} is {job.state}{rule.only}"
        return _REFUSALS.get((key, job.state), refusal).format(job.id)
    if obstacle := rule.obstacles(store, [job]).get(job.id):
        return obstacle.one.format(job.id)
    stays = rule.stays(store, [job]).get(job.id, "")
    action = _Action(job, f"{action_of.many} job", rule.did, action_of.change, rule)
    if stays:
        action = action._replace(tail=f"? {stays}", done=f"{rule.did}; {stays}")
    return action if action_of.details is None else action_of.details(action, store)


def _prepare_cancel(action: _Action, store: Store) -> _Action:
    if action.job.state is State.RUNNING:
        action = action._replace(verb=f"{ENDED.verb} running job", done=f"will {ENDED.verb}")
    needy = len(store.read.dependents_of([action.job.id]))
    return action._replace(tail=f"? {skipped_text(needy, 'need', 'it')}") if needy else action


def _prepare_retry(action: _Action, store: Store) -> _Action:
    others = len(store.job_control.jobs_to_retry([action.job.id])) - 1
    verb = "belongs" if others == 1 else "belong"
    if others:
        action = action._replace(tail=f" with {pluralize(others, 'job')} that {verb} to it?")
    held = store.job_control.previously_held([action.job.id])
    return action._replace(done=HELD_AGAIN) if held else action


def _prepare_priority(action: _Action, _store: Store, *, amount: int) -> _Action | str:
    job, priority = action.job, action.job.priority + amount
    if PRIORITY_VALUES.value_of(str(priority), 0.0) is None:
        return f"job {job.id} already has the limit of the priority, {job.priority}"
    tail, done = f": {job.priority} → {priority}?", f"given priority {priority}"
    return action._replace(verb="priority of job", tail=tail, done=done)


def _prioritise(store: Store, job: JobRow, _now: float, *, amount: int) -> list[int]:
    return store.job_control.set_priority([job.id], job.priority + amount)


class _KeyAction(NamedTuple):
    """The action of a key."""

    rule: ChangeRule
    many: str  # in the question, before the number of jobs
    did: str  # in the answer, behind it
    change: _Act
    details: Callable[[_Action, Store], _Action | str] | None = None


def _change_by(
    rule: ChangeRule, details: Callable[[_Action, Store], _Action | str] | None = None
) -> _KeyAction:
    """Return the action of a key that makes a change exactly as its rule says."""
    return _KeyAction(
        rule,
        rule.verb,
        rule.did,
        lambda store, job, now: rule.apply(store.job_control, [job.id], now),
        details,
    )


def _priority_by(amount: int, verb: str, priority: str) -> _KeyAction:
    return _KeyAction(
        PRIORITY,
        f"{verb} the priority of",
        f"given a {priority} priority",
        partial(_prioritise, amount=amount),
        partial(_prepare_priority, amount=amount),
    )


_CANCEL = "c"
_ACTIONS: Mapping[str, _KeyAction] = {
    "h": _change_by(
        HOLD, lambda action, _: action._replace(tail="? It starts only after it is released")
    ),
    "l": _change_by(RELEASE),
    "p": _change_by(PAUSE),
    "u": _change_by(RESUME),
    _CANCEL: _change_by(CANCEL, _prepare_cancel),
    "r": _change_by(RETRY, _prepare_retry),
    "+": _priority_by(1, "raise", "higher"),
    "-": _priority_by(-1, "lower", "lower"),
}
KEYS = {key: action.many.partition(" ")[0] for key, action in _ACTIONS.items()}  # key → verb


class ProposedChange(NamedTuple):
    """A change of one job, or of several, that the user must confirm."""

    actions: tuple[_Action, ...]  # in the order in which they are done
    did: str = ""  # in the answer about several
    batch_question: str = ""  # question about several jobs

    @property
    def text(self) -> str:
        """What is asked, with a job's whole name."""
        action = self.actions[0]
        return self.batch_question or action.question_text(sanitize_terminal(action.job.name))

    def question(self, width: int) -> TextLine:
        """Return the question in one line; a job's name is shortened if there is little room."""
        room = max(1, width - width_of(ANSWERS))
        text = self.batch_question
        if not text:
            action = self.actions[0]
            left = max(LEAST_NAME, room - width_of(action.question_text("")))
            text = action.question_text(
                shorten(sanitize_terminal(action.job.name), left, middle=True)
            )
        return TextLine(
            (*line(text, TextStyle.WARN).truncate(room).spans, TextSpan(ANSWERS, TextStyle.STRONG))
        )

    def act(self, store: Store) -> list[int]:
        """Change all jobs in one transaction; return the jobs that changed."""
        with store.database.writing():
            now = time.time()
            return [job for each in self.actions for job in each.change(store, each.job, now)]

    def notify_scheduler(self, home: Home) -> None:
        """Let the scheduler know; may take seconds."""
        self.actions[0].rule.notify_scheduler(home, [action.job for action in self.actions])

    def report(self, touched_jobs: Sequence[int], home: Home) -> TextLine:
        """Return what was done; jobs that changed meanwhile are named."""
        # the oldest first
        missed = [action.job for action in self.actions if action.job.id not in touched_jobs][::-1]
        if not self.batch_question:
            if missed:
                text = f"job {missed[0].id} changed in the meantime. Nothing was done"
                return line(text, TextStyle.WARN)
            return line(self.actions[0].report(touched_jobs, home), TextStyle.GOOD)
        changed = len(self.actions) - len(missed)
        text = f"{pluralize(changed, 'job')} {self.did}" if changed else "nothing was done"
        if more := len({*touched_jobs}) - changed:
            text += f", and {more:,} more with them"
        if not missed:
            return line(text, TextStyle.GOOD)
        return line(f"{text}; changed meanwhile: {format_job_names(missed)}", TextStyle.WARN)


def propose(key: str, jobs: Sequence[JobRow], store: Store) -> ProposedChange | str:
    """Return the action of a key on jobs, or the reason why the action is impossible for all jobs.

    Args:
        key: one of KEYS.
        jobs: jobs as recorded in the queue now; at least one.
        store: is only read.
    """
    # the newest first: what needs another of them is changed itself, not with that
    ordered = sorted(jobs, key=lambda job: job.id, reverse=True)
    proposals = [_propose_one(key, job, store) for job in ordered]
    actions = tuple(proposal for proposal in proposals if isinstance(proposal, _Action))
    refusals = [proposal for proposal in proposals if isinstance(proposal, str)]
    if len(jobs) == 1:
        return ProposedChange(actions) if actions else refusals[0]
    if not actions:
        return f"none of {pluralize(len(jobs), 'marked job')}: {refusals[-1]}"
    text = f"{_ACTIONS[key].many} {pluralize(len(actions), 'job')}?"
    if key == _CANCEL:
        text += "".join(f" {detail}." for detail in _cancel_consequences(actions, store))
    if refusals:
        left = "stays" if len(refusals) == 1 else "stay"
        text += f" {len(refusals):,} {left} unchanged: {refusals[-1]}"
    return ProposedChange(actions, _ACTIONS[key].did, text)


def _cancel_consequences(actions: Sequence[_Action], store: Store) -> Iterator[str]:
    """Yield the further effects of a cancellation."""
    jobs = {action.job.id for action in actions}
    if runs := sum(action.job.state is State.RUNNING for action in actions):
        yield f"{runs:,} of them {'runs' if runs == 1 else 'run'}"
    if needy := {row.id for row in store.read.dependents_of(jobs)} - jobs:
        yield skipped_text(len(needy), "need", "them")


def one_line(error: BaseException) -> str:
    """Return what went wrong, for a screen."""
    return sanitize_terminal(" ".join(str(error).split())) or type(error).__name__
