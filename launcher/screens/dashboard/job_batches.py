"""The same change of several jobs: one question, one answer, one transaction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher.errors import counted
from launcher.screens.dashboard.job_actions import (
    ANSWERS,
    JobAction,
    done_to_many,
    of_many,
    propose,
)
from launcher.screens.format import named
from launcher.screens.text_table import Line, Span, Tone, line, width_of
from launcher.states import State
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home

_CANCEL = "c"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAction:
    """A change of several jobs that the user must confirm."""

    key: str
    asked: str
    actions: tuple[JobAction, ...]  # in the order in which they are done

    def question(self, width: int) -> Line:
        """Return what is asked, in one line."""
        room = max(1, width - width_of(ANSWERS))
        asked = line(self.asked, Tone.WARN).cut(room)
        return Line((*asked.spans, Span(ANSWERS, Tone.STRONG)))

    def act(self, store: Store) -> list[int]:
        """Change all of them in one transaction; return the jobs that this concerned."""
        with store.writing():
            return [job for action in self.actions for job in action.act(store)]

    def after(self, home: Home) -> None:
        """Let the scheduler know; may take seconds."""
        for follow_up in dict.fromkeys(action.after for action in self.actions):
            follow_up(home)

    def report(self, touched: Sequence[int], home: Home) -> Line:  # noqa: ARG002  # as of one job
        """Return what was done; jobs that changed meanwhile are named."""
        jobs = {action.job.id for action in self.actions}
        missed = [action.job for action in self.actions if action.job.id not in touched]
        text = "nothing was done"
        if changed := jobs & {*touched}:
            text = done_to_many(self.key, counted(len(changed), "job"))
        if more := len({*touched} - jobs):
            text += f", and {more:,} more with them"
        if not missed:
            return line(text, Tone.GOOD)
        return line(f"{text}; changed meanwhile: {named(sorted(missed, key=_number))}", Tone.WARN)


def propose_many(key: str, jobs: Sequence[JobRow], store: Store) -> BatchAction | str:
    """Return what a key would do to jobs, or why that can be done to none of them.

    Args:
        key: one of KEYS.
        jobs: as the queue knows them now.
        store: is only read.
    """
    # the newest first: what needs another of them is changed itself, not with that
    ordered = sorted(jobs, key=_number, reverse=True)
    proposals = [propose(key, job, store) for job in ordered]
    actions = tuple(proposal for proposal in proposals if isinstance(proposal, JobAction))
    refusals = [proposal for proposal in proposals if isinstance(proposal, str)]
    if not actions:
        return f"none of {counted(len(jobs), 'marked job')}: {refusals[-1]}"
    text = of_many(key, counted(len(actions), "job"))
    if key == _CANCEL:
        text += "".join(f" {detail}" for detail in _ends(actions, store))
    if refusals:
        left = "stays" if len(refusals) == 1 else "stay"
        text += f" {len(refusals):,} {left} unchanged: {refusals[-1]}"
    return BatchAction(key=key, asked=text, actions=actions)


def _ends(actions: Sequence[JobAction], store: Store) -> Iterator[str]:
    """Return what a cancellation does beside what it says."""
    jobs = [action.job.id for action in actions]
    if runs := sum(action.job.state is State.RUNNING for action in actions):
        yield f"{runs:,} of them {'runs' if runs == 1 else 'run'}."
    if needy := {row.id for row in store.read.dependants_of(jobs)} - {*jobs}:
        yield f"{counted(len(needy), 'job')} that {'needs' if len(needy) == 1 else 'need'} them will be skipped."


def _number(job: JobRow) -> int:
    return job.id
