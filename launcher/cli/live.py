"""`launcher status --watch`: the queue again and again, until Ctrl-C."""

import os
import sys
import time
from collections.abc import Callable

from launcher.gpu.monitor import Lookout
from launcher.gpu.nvml import Nvml
from launcher.screens.queue_view import listing, screen_lines
from launcher.screens.snapshots import Snapshots, lines_of
from launcher.screens.terminal import terminal_size, whole_screen
from launcher.screens.watch import follow
from launcher.store.client import check_still_there
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home


def watch(
    home: Home, store: Store, wanted: Callable[[], list[JobRow]] | None, every_s: float
) -> None:
    """Show the queue until Ctrl-C; in a pipe or a dumb terminal, a line for each change.

    Args:
        home: whose queue.
        store: its database.
        wanted: returns the jobs that are shown; None: all that matter.
        every_s: seconds between two pictures.

    Raises:
        KeyboardInterrupt: the person leaves.
        MachineError: the queue was deleted or replaced meanwhile.
    """
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        follow(home, store, wanted() if wanted else None)
        return
    snapshots = Snapshots(home, store, lookout=Lookout(Nvml().snapshot, _unneeded), measures=True)
    with whole_screen() as show:
        while True:
            check_still_there(home, store)
            columns, rows = terminal_size()
            if wanted:
                with store.reading():
                    listed = lines_of(home, store, wanted())
                lines = listing(listed, time.time(), columns)
            else:
                lines = screen_lines(snapshots.take(waiting=rows), columns)
            show(lines, columns, rows)
            _pause(every_s, (columns, rows))


LOOK_EVERY_S = 0.1  # at the window's size


def _pause(span_s: float, size: tuple[int, int]) -> None:
    """Wait for the next picture, which comes at once when the window's size has changed."""
    until_s = time.monotonic() + span_s
    while (left_s := until_s - time.monotonic()) > 0 and terminal_size() == size:
        time.sleep(min(LOOK_EVERY_S, left_s))


def _unneeded() -> None:
    """Return at once: the next picture has the result of a query of the GPUs."""
