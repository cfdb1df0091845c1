"""Attempt folders without a record in the queue, after a restored backup or a power cut that undid a claim."""

import os
from typing import NamedTuple

from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.states import NeverStarted
from launcher.queue.workers.attempt_handles import TRANSIENT_ERRORS, AdoptedAttempt, inspect_attempt
from launcher.queue.workers.attempt_journal import read_starter
from launcher.queue.workers.attempt_spec import is_unused
from launcher.system.processes import Identity, boot_id


class UnrecordedAttempts(NamedTuple):
    """Obstacles for the next attempt of a job."""

    number: int  # the first attempt whose folder was never begun
    began: tuple[Attempt, ...] = ()  # attempts that may have begun
    living: tuple[Attempt, ...] = ()  # attempts that still run
    unclear: str = ""  # folder whose content cannot be read, and why


def find_unrecorded(home: Home, job: int, attempt_number: int) -> UnrecordedAttempts:
    """Return the attempts of a job that are not on record in the queue.

    They do not affect the next attempt, which gets a folder of its own. After this call, an
    unstarted one of them can no longer start, unless an obstacle is unclear.

    Args:
        home: The queue folder.
        job: Number of the job.
        attempt_number: Number of the next attempt, as far as the queue knows.
    """
    began: list[Attempt] = []
    living: list[Attempt] = []
    attempt = home.attempt(job, attempt_number)
    try:
        while not _is_free(attempt):
            if attempt.folder.is_dir():
                end = inspect_attempt(no_supervisor(_boot_of(attempt)), attempt)
                if isinstance(end, AdoptedAttempt):
                    os.close(end.descriptor)
                    living.append(attempt)
                began += [] if isinstance(end, NeverStarted) else [attempt]
            attempt_number += 1
            attempt = home.attempt(job, attempt_number)
    except TRANSIENT_ERRORS as error:
        why = error.strerror if isinstance(error, OSError) else None
        return UnrecordedAttempts(
            number=attempt_number, unclear=f"{attempt.folder} ({why or error})"
        )
    return UnrecordedAttempts(number=attempt_number, began=tuple(began), living=tuple(living))


def _is_free(attempt: Attempt) -> bool:
    """Whether a folder does not exist or was left by a rolled back transaction."""
    try:
        return is_unused(attempt)
    except FileNotFoundError:
        return not os.path.lexists(attempt.folder)  # a link that leads nowhere is in the way
    except NotADirectoryError:
        return False


def _boot_of(attempt: Attempt) -> str:
    """Return the boot in which an attempt was begun; ours, if that is not recorded."""
    who = read_starter(attempt)
    return boot_id() if who is None else who.boot


def no_supervisor(boot: str) -> Identity:
    """Return the placeholder identity for attempts without a supervisor on this machine."""
    return Identity(pid=0, start_ticks=0, boot=boot)
