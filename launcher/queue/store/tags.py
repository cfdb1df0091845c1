"""Tags and notes that owners give to jobs: what can be one."""

from launcher.queue.jobs.job import LONGEST_NOTE
from launcher.system.errors import UsageError
from launcher.system.lazy_regex import compile_lazily
from launcher.system.text import is_utf8

LONGEST_TAG = 64  # characters
REMOVED_TAG = "removed"  # tag of jobs that a sweep ran with values that its file no longer contains
TAG_RULE = f"one word of at most {LONGEST_TAG} letters, digits and _.@/=-"
_TAG = compile_lazily(r"\w[\w.@/=-]*")


def is_tag(text: str) -> bool:
    """Whether a text can be a tag: see TAG_RULE."""
    return bool(_TAG.fullmatch(text)) and len(text) <= LONGEST_TAG


def check_note(text: str) -> None:
    """Refuse what cannot be a note.

    Raises:
        UsageError: it is too long, or no UTF-8.
    """
    if len(text) > LONGEST_NOTE:
        raise UsageError(f"the note has {len(text):,} characters. Use at most {LONGEST_NOTE:,}.")
    if not is_utf8(text):
        raise UsageError("the note is not UTF-8 text")
