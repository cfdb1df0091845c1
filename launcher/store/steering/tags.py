"""Tags and notes: what owners write on jobs to find them again; nothing else depends on them."""

import json
import re
from collections.abc import Collection, Iterable

from launcher.errors import UsageError
from launcher.store.connection import Connection
from launcher.system.text import is_utf8

LONGEST_TAG, LONGEST_NOTE = 64, 10_000  # characters
TAG_RULE = f"one word of at most {LONGEST_TAG} letters, digits and _.@/=-"
_TAG = re.compile(r"\w[\w.@/=-]*")
_AMONG = "SELECT value FROM json_each(?)"


def is_tag(text: str) -> bool:
    """Tell whether a text can be a tag: see TAG_RULE."""
    return bool(_TAG.fullmatch(text)) and len(text) <= LONGEST_TAG


def check_note(text: str) -> None:
    """Refuse what cannot be a note.

    Raises:
        UsageError: it is too long, or no UTF-8.
    """
    if len(text) > LONGEST_NOTE:
        raise UsageError(
            f"a note has at most {LONGEST_NOTE:,} characters; this one has {len(text):,}"
        )
    if not is_utf8(text):
        raise UsageError("the note is no UTF-8 text")


def change_tags(
    connection: Connection, jobs: Iterable[int], add: Collection[str], remove: Collection[str]
) -> list[int]:
    """Give tags to jobs, and take others from them; return the jobs that are tagged otherwise now. Inside `writing`."""
    changed = []
    for job in jobs:
        rows = [(job, tag) for tag in add]
        given = "INSERT OR IGNORE INTO tags (job, tag) SELECT id, ?2 FROM jobs WHERE id = ?1"
        number = sum(connection.execute(given, row).rowcount for row in rows)
        taken = "DELETE FROM tags WHERE job = ? AND tag = ?"
        number += sum(connection.execute(taken, (job, tag)).rowcount for tag in remove)
        changed += [job] if number else []
    return changed


def set_note(connection: Connection, jobs: Iterable[int], text: str) -> list[int]:
    """Write a note on jobs in the place of the one that is there; return those whose note is another now. Inside `writing`."""
    update = "UPDATE jobs SET note = ?1 WHERE id = ?2 AND note <> ?1"
    return [job for job in jobs if connection.execute(update, (text, job)).rowcount]


def tags_of(connection: Connection, jobs: Iterable[int]) -> dict[int, list[str]]:
    """Return job → its tags in the order of their names, of those that have some."""
    rows = connection.execute(
        f"SELECT job, tag FROM tags WHERE job IN ({_AMONG}) ORDER BY job, tag",
        (json.dumps([*jobs]),),
    )
    tags: dict[int, list[str]] = {}
    for job, tag in rows:
        tags.setdefault(job, []).append(tag)
    return tags


def all_tags(connection: Connection) -> dict[str, int]:
    """Return each tag with the number of its jobs."""
    rows = connection.execute("SELECT tag, count(*) FROM tags GROUP BY tag ORDER BY tag")
    return dict(rows.fetchall())


def tagged(connection: Connection, pattern: str) -> list[int]:
    """Return the jobs that have a tag, or one that a glob matches."""
    rows = connection.execute(
        "SELECT DISTINCT job FROM tags WHERE tag GLOB ? ORDER BY job", (pattern,)
    )
    return [job for (job,) in rows]
