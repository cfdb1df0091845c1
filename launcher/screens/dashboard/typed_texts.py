"""Tags and notes as they are typed in one line: of one job as they are, of several what changes."""

from collections.abc import Callable, Sequence

from launcher.errors import UsageError, counted
from launcher.screens.dashboard.job_texts import JobText
from launcher.screens.dashboard.prompt import Prompt
from launcher.screens.format import first_line, harmless
from launcher.screens.text_table import shortened
from launcher.store.queue import Store
from launcher.store.steering import TAG_RULE, is_tag

_ROOM = 24  # columns of a job's name
_HINT = "Enter keeps  Esc leaves it"
_TAGS = "tags of job"


def typed_text(texts: Sequence[JobText], done: Callable[[str], None]) -> Prompt:
    """Return the line in which a text on jobs is typed.

    Args:
        texts: as they are now, the same of each job; at least one.
        done: takes what was typed.
    """
    first = texts[0]
    if len(texts) == 1:
        label = shortened(first.asked, len(first.what) + _ROOM, middle=True)
        return Prompt(
            label=label,
            hint=_HINT,
            text=harmless(first_line(first.text)),
            longest=first.longest,
            done=done,
        )
    label = f"{first.what}s ({counted(len(texts), 'marked job')})"
    hint = "TAG gives, -TAG takes  Esc leaves" if first.what == _TAGS else _HINT
    return Prompt(label=label, hint=hint, longest=first.longest, done=done)


def put_text(texts: Sequence[JobText], store: Store, text: str) -> str:
    """Write on jobs what was typed, and return what was done, for people.

    Raises:
        UsageError: it may not be written.
    """
    first = texts[0]
    if len(texts) == 1:
        if text == harmless(first_line(first.text)):
            return f"{first.asked}: as before"
        _, _, below = first.text.partition("\n")
        # what cannot be typed here stays; an empty text removes all of it
        return first.put(store, f"{text}\n{below}" if text and below else text)
    if first.what != _TAGS:
        with store.writing():
            for each in texts:
                each.put(store, text)
        return f"{counted(len(texts), 'job')}: {'note written' if text else 'no note'}"
    words = text.split()
    add = {word.removeprefix("+") for word in words if not word.startswith("-")}
    remove = {word[1:] for word in words if word.startswith("-")}
    for tag in sorted(add | remove):
        if not is_tag(tag):
            raise UsageError(f"{harmless(tag)!r} is no tag: {TAG_RULE}")
    touched = store.steering.change_tags([each.job.id for each in texts], add, remove)
    return f"{counted(len(touched), 'job')} tagged otherwise"
