"""Changes of jobs from the page: the same questions and actions as in `launcher top`."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from launcher.frontends.screens.job_actions import KEYS as VERBS
from launcher.frontends.screens.job_actions import READ_ONLY, ProposedChange, one_line, propose
from launcher.frontends.screens.job_texts import TEXT_KEYS, JobText, read_job_text
from launcher.frontends.web.view import NotFound, QueueView, job_of
from launcher.queue.home.paths import check_home
from launcher.queue.store.client import open_home
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.system.errors import Error, UsageError
from launcher.system.text import sanitize_terminal

# the verbs of addresses, each with its key, which is that of `top`
KEYS = {verb: key for key, verb in {**VERBS, **TEXT_KEYS}.items()}
_TEXTS = frozenset(TEXT_KEYS.values())
_LABELS = {"raise": "Priority +1", "lower": "Priority -1", "tag": "Tags"}  # others: the verb
CHANGED = "The job has changed in the meantime. Nothing was done yet."


class ReadOnly(UsageError):
    """Nothing can be changed from this page."""

    status = 403


class ActionTarget(NamedTuple):
    """An action and its job."""

    job: int
    verb: str


class Question(NamedTuple):
    """The question before a change, or the reason why the change is not possible."""

    target: ActionTarget
    text: str
    # sent with the answer, and different if the change would differ; '' if no change is possible
    confirms: str = ""
    change: ProposedChange | None = None  # the action
    field: JobText | None = None  # text to edit, if the action edits one
    typed: str = ""  # content of the text field
    error: str = ""  # why the previous answer changed nothing


def buttons_of(job: JobRow, store: Store) -> list[tuple[str, str, str]]:
    """Return the possible actions on a job now: verb, label and key of each."""
    return [
        (verb, _LABELS.get(verb, verb.capitalize()), key)
        for verb, key in KEYS.items()
        if verb in _TEXTS or isinstance(propose(key, [job], store), ProposedChange)
    ]


def build_question(view: QueueView, target: ActionTarget) -> Question:
    """Return the question for a change.

    Raises:
        ReadOnly: nothing can be changed.
        NotFound: there is no such job, or no such change.
    """
    with _open_for_change(view, target) as store:
        return _question(target, store)


def apply_change(view: QueueView, target: ActionTarget, confirms: str, text: str) -> str | Question:
    """Apply a confirmed change, and return a message about it, or the question to ask again.

    Args:
        view: the queue; the change uses a connection of its own.
        target: the action and the job.
        confirms: that of the answered question. If it differs from that of the current question, because
            the job has changed, or if the text is invalid, nothing is changed and the question is returned.
        text: the typed text.

    Raises:
        ReadOnly: nothing can be changed.
        NotFound: there is no such job, or no such change.
    """
    with _open_for_change(view, target) as store:
        question = _question(target, store)
        if not confirms:
            return question
        question = question._replace(typed=text)
        if question.confirms != confirms:
            return question._replace(error=CHANGED)
        if question.field is not None:
            try:
                return question.field.write(store, text)
            except UsageError as error:
                return question._replace(error=str(error))
        assert question.change is not None, "a confirmed change is possible"
        touched = question.change.act(store)
    done = question.change.report(touched, view.home).text
    try:
        if touched:
            question.change.notify_scheduler(view.home)
    except (Error, OSError) as error:
        return f"{done}, but {one_line(error)}"
    return done


def _question(target: ActionTarget, store: Store) -> Question:
    """Return the current question for an action."""
    verb, job = target.verb, job_of(store, target.job)
    if verb in _TEXTS:
        field = read_job_text(verb, job, store)
        digest = hashlib.sha256(field.text.encode(errors="surrogatepass")).hexdigest()
        confirms = f"{field.prompt} {digest[:16]}"
        return Question(target, f"{field.prompt}:", confirms, field=field, typed=field.text)
    change = propose(KEYS[verb], [job], store)
    if isinstance(change, str):
        return Question(target, change)
    return Question(target, change.text, change.text, change)


@contextmanager
def _open_for_change(view: QueueView, target: ActionTarget) -> Iterator[Store]:
    if target.verb not in KEYS:
        raise NotFound(f"{sanitize_terminal(target.verb)!r} is not an action on jobs")
    if view.read_only:
        raise ReadOnly(READ_ONLY)
    if not view.home.exists():
        raise NotFound("there is no queue yet")
    check_home(view.home)
    with open_home(view.home) as store:
        yield store
