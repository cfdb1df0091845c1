"""Jobs that a text of the user selects, for all commands, screens and the browser page."""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

RUN_PREFIX, TAG_PREFIX, GROUP_PREFIX = "run:", "tag:", "group:"
SHARED_RUN = "add"  # run of programs without --run: its name also selects jobs of other commands
MOST_NUMBERS = 5  # numbers of jobs in a command to repeat, before a pattern is shorter
WILDCARDS = frozenset("*?[")
_LONGEST_NUMBER = 18  # digits; SQLite counts to 2^63
_LAST = "\U0010ffff"  # sorts behind whatever may follow
# by way of the index (run, name): a queue has few runs and may have a million jobs
_AMONG = "jobs.run IN (SELECT id FROM runs) AND"
# an ended job keeps its lane; a damaged one has no group
_IN_GROUP = (
    "jobs.lane IN (SELECT id FROM lanes WHERE CASE WHEN json_valid(key)"
    " THEN json_extract(key, '$.group') <> '' AND json_extract(key, '$.group') GLOB :selected END)"
)
Execute = Callable[..., Any]


class Selection(NamedTuple):
    """A condition on rows of jobs, with its only value."""

    condition: str
    selected: str = ""


EVERY_JOB, NO_JOB = Selection("1"), Selection("0")


def find_selection(execute: Execute, pattern: str) -> Selection:
    """Return the selection of jobs that match a pattern, `NO_JOB` if there is none.

    A pattern is a number, run:NAME, tag:NAME or group:NAME; or a complete name, a glob, or a prefix of names. A
    pattern without a job type may also match a command: `prep` finds command/prep.
    """
    for meaning in _possible_selections(pattern):
        query = f"SELECT 1 FROM jobs WHERE {meaning.condition} LIMIT 1"
        if execute(query, meaning._asdict()).fetchone():
            return meaning
    return NO_JOB


def describe_pattern(text: str) -> str:
    """Return what a text selects if that is not a job of that name; '' if it is."""
    if text.startswith(RUN_PREFIX):
        return "the jobs of a run"
    if text.startswith(TAG_PREFIX):
        return "the jobs with a tag"
    if text.startswith(GROUP_PREFIX):
        return "the jobs of a group"
    return f"job number {text}" if is_job_number(text) else ""


def words_for_jobs(run: str, jobs: Mapping[int, str]) -> str:
    """Return words for a shell that select jobs of a run: its name, unless all programs share it.

    Args:
        run: Name of the run.
        jobs: Number → name.
    """
    stems = {name.partition("@")[0] for name in jobs.values()}
    if run != SHARED_RUN:
        words = [f"{RUN_PREFIX}{run}"]
    # before a pattern, which also selects the jobs of an earlier sweep of that name
    elif len(jobs) > MOST_NUMBERS and max(jobs) - min(jobs) == len(jobs) - 1:
        return f"$(seq {min(jobs)} {max(jobs)})"
    elif (
        len(jobs) > MOST_NUMBERS and len(stems) == 1 and all("@" in each for each in jobs.values())
    ):
        words = [f"{stems.pop()}@*"]
    else:
        words = [str(job) for job in sorted(jobs)]
    return shlex.join(words)


def find_search_selection(execute: Execute, text: str) -> Selection:
    """Return what selects the jobs that a text means, or, where it means none, those in whose name or run's name it is."""
    chosen = find_selection(execute, text)
    if (
        chosen is not NO_JOB
        or text.startswith((RUN_PREFIX, TAG_PREFIX, GROUP_PREFIX))
        or not _is_utf8_name(text)
    ):
        return chosen
    condition = (
        "(jobs.name GLOB :selected OR jobs.run IN (SELECT id FROM runs WHERE name GLOB :selected))"
    )
    return Selection(condition, text if WILDCARDS.intersection(text) else f"*{text}*")


def _possible_selections(pattern: str) -> Iterator[Selection]:
    if not pattern or not _is_utf8_name(pattern):
        return
    if pattern.startswith(RUN_PREFIX):
        name = pattern.removeprefix(RUN_PREFIX)
        yield Selection("jobs.run IN (SELECT id FROM runs WHERE name = :selected)", name)
        glob = name.replace("[!", "[^")
        yield Selection("jobs.run IN (SELECT id FROM runs WHERE name GLOB :selected)", glob)
    elif pattern.startswith(TAG_PREFIX):
        tag = pattern.removeprefix(TAG_PREFIX)
        yield Selection("jobs.id IN (SELECT job FROM tags WHERE tag GLOB :selected)", tag)
    elif pattern.startswith(GROUP_PREFIX):
        yield Selection(_IN_GROUP, pattern.removeprefix(GROUP_PREFIX))
    elif is_job_number(pattern):
        if len(pattern) <= _LONGEST_NUMBER:
            yield Selection("jobs.id = CAST(:selected AS INTEGER)", pattern)
    else:
        names = [pattern] if "/" in pattern else [pattern, f"command/{pattern}"]
        yield from (Selection(f"{_AMONG} jobs.name = :selected", name) for name in names)
        yield from map(_select_by_glob_or_prefix, names)


def is_job_number(text: str) -> bool:
    """Whether a pattern is the number of a job."""
    return text.isascii() and text.isdecimal()


def _select_by_glob_or_prefix(name: str) -> Selection:
    """Return what selects the jobs whose name a glob matches, or a text begins."""
    if WILDCARDS.intersection(name):
        return Selection(f"{_AMONG} jobs.name GLOB :selected", name)
    begins = f"{_AMONG} jobs.name >= :selected AND jobs.name < :selected || '{_LAST}'"
    if name[-1].isdecimal():  # command/1 is not the beginning of command/12
        begins += " AND substr(jobs.name, length(:selected) + 1) NOT GLOB '[0-9]*'"
    return Selection(begins, name)


def _is_utf8_name(text: str) -> bool:
    """Whether a name can be made of the bytes of a text."""
    return text == os.fsencode(text).decode(errors="replace")
