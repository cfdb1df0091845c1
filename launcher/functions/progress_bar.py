"""A bar that shows how many jobs have ended: in a terminal, in a notebook, and nowhere else."""

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import Any

from launcher.screens.format import tally
from launcher.states import ENDED, State

States = Mapping[int, State]
Show = Callable[[States], None]


@contextmanager
def bar(*, show: bool) -> Iterator[Show]:
    """Give what shows the states of jobs; it does nothing where nobody would see it."""
    if show and (display := _notebook()) is not None:
        yield _in_notebook(display)
    elif show and sys.stderr.isatty():
        with _in_terminal() as shown:
            yield shown
    else:
        yield lambda _: None


def _notebook() -> Any:
    """Return the module that draws into a notebook; None outside of one."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return importlib.import_module("IPython.display")


def _in_notebook(display: Any) -> Show:
    handle = display.display(display.HTML(""), display_id=True)

    def show(states: States) -> None:
        handle.update(display.HTML(html(states)))

    return show


def html(states: States) -> str:
    """Return the bar as HTML."""
    ended, total = _count(states)
    text = escape(f"{ended} of {total} · {tally(Counter(states.values()))}")
    return f'<progress value="{ended}" max="{max(1, total)}"></progress> {text}'


@contextmanager
def _in_terminal() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("")

        def show(states: States) -> None:
            ended, total = _count(states)
            text = tally(Counter(states.values()))
            progress.update(task, completed=ended, total=total, description=text)

        yield show


def _count(states: States) -> tuple[int, int]:
    return sum(state in ENDED for state in states.values()), len(states)
