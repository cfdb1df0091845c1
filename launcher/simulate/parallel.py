"""Independent calculations in several processes, on a machine of which a scheduler may use the rest."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Common = TypeVar("Common")
Answer = TypeVar("Answer")

_common: Any = None  # in a child: what all calculations are about; inherited, as it may be large


def in_processes(
    function: Callable[[Common, str], Answer],
    common: Common,
    names: Sequence[str],
    processes: int,
    tell: Callable[[str], None],
) -> Iterator[tuple[str, Answer]]:
    """Give each name with what the function says of it, as they come.

    Args:
        function: of a module, so that a child finds it.
        common: what all calculations are about.
        names: one for each calculation.
        processes: at most so many at once; 1: all in this process, one after another.
        tell: called with a name before its calculation in this process, and after it in another.
    """
    if processes <= 1 or len(names) <= 1:
        for name in names:
            tell(name)
            yield name, function(common, name)
        return
    # forked, not spawned: the jobs of a trace are inherited instead of copied
    context = multiprocessing.get_context("fork")
    count = min(processes, len(names))
    with context.Pool(
        count, _begin, (common,)
    ) as pool:  # whatever is raised, its processes are ended
        for name, answer in pool.imap_unordered(_call, [(function, name) for name in names]):
            tell(name)
            yield name, answer


def _begin(common: object) -> None:
    global _common  # a child of a pool has no other place for what it inherits
    _common = common
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us, and says why


def _call(task: tuple[Callable[[Any, str], Any], str]) -> tuple[str, Any]:
    function, name = task
    return name, function(_common, name)
