"""The content of a line that a form reads."""

import math
import re
from functools import cache
from typing import NamedTuple

from launcher.queue.workers.progress.number_texts import to_number
from launcher.queue.workers.progress.steps import STEP


class FormLine(NamedTuple):
    """The content of a line of a known form."""

    numbers: tuple[tuple[str, float], ...] = ()
    step: int | None = None
    total: int | None = None
    unit: str = STEP
    title: str = ""
    is_batch: bool = False  # numbers of a batch, which a line of means replaces
    is_mean: bool = False  # numbers of a phase as a whole: they replace those of its batches
    is_known: bool = True  # False: only names count that the field's words make up
    batch: tuple[int, int] | None = None  # within the epoch, of how many
    eval_step: tuple[int, int] | None = None  # an evaluation: counts if nothing else does


@cache
def compile_pattern(pattern: str, flags: int = 0) -> "re.Pattern[str]":
    """Return a pattern; each is compiled when a log has a line that it may read."""
    return re.compile(pattern, flags)


def number(text: str) -> float:
    """Return a number that a form has found."""
    found = to_number(text)
    return math.nan if found is None else found
