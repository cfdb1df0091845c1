"""The Textual application around a controller: the terminal, the clock, the keys, and lines drawn where they changed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.events import Key, Paste, Resize
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from launcher.screens.dashboard.controller import Controller
from launcher.screens.dashboard.page import Drawn
from launcher.screens.snapshots import Queue
from launcher.screens.terminal import STYLES
from launcher.screens.text_table import Line, Tone, width_of

CHOSEN = Style(reverse=True)


class Canvas(Widget, can_focus=True):
    """Fills the screen with lines."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "Canvas { width: 100%; height: 100%; }"

    def __init__(self, *, colour: bool) -> None:
        """Begin with nothing.

        Args:
            colour: draw in the terminal's sixteen colours.
        """
        super().__init__()
        self._styles = {tone: _style(tone, colour=colour) for tone in Tone}
        self._rows: Sequence[tuple[Line, bool]] = ()

    def show(self, drawn: Drawn) -> None:
        """Draw these lines in place of those before."""
        before = self._rows
        self._rows = [(row, place in drawn.chosen) for place, row in enumerate(drawn.lines)]
        width = self.size.width
        if len(before) != len(self._rows):
            self.refresh()
            return
        changed = [
            Region(0, place, width, 1)
            for place, (old, new) in enumerate(zip(before, self._rows, strict=True))
            if old != new
        ]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        """Return a row of the screen."""
        width = self.size.width
        if y >= len(self._rows):
            return Strip.blank(width)
        drawn, chosen = self._rows[y]
        if chosen:
            text = drawn.text
            return Strip([Segment(text + " " * max(0, width - width_of(text)), CHOSEN)])
        segments = [Segment(span.text, self._styles[span.tone]) for span in drawn.spans]
        return Strip(segments).adjust_cell_length(width)


def _style(tone: Tone, *, colour: bool) -> Style:
    style = dict(STYLES[tone])
    foreground = style.pop("fg", None)
    return Style(color=foreground if colour else None, **style)


LOOK_EVERY_S = 1.0
TERMINATED = 128 + signal.SIGTERM
_THEME = "ansi-dark"  # the person's own palette and background
_SUSPENDING = (signal.SIGTSTP, signal.SIGCONT)
_VERB = (
    *(sys.executable, "-P", "-c"),
    "import sys; from launcher.cli.main import main; sys.exit(main())",
)


class Top(App[int]):
    """Shows a controller on the whole screen; its result is the exit code."""

    ENABLE_COMMAND_PALETTE = False
    ESCAPE_TO_MINIMIZE = False
    INLINE_PADDING = 0
    BINDINGS: ClassVar[list[BindingType]] = []
    CSS = "Screen { overflow: hidden; background: ansi_default; color: ansi_default; }"

    def __init__(self, queue: Queue, *, colour: bool, read_only: bool = False) -> None:
        """Show a queue.

        Args:
            queue: as it is now.
            colour: draw in the terminal's sixteen colours.
            read_only: nothing can be changed.
        """
        super().__init__(ansi_color=True)
        self.theme = _THEME
        self.controller = Controller(queue, later=self._later, terminal=self, read_only=read_only)
        self._canvas = Canvas(colour=colour)
        self._away = False  # suspended, and the terminal given back

    def compose(self) -> ComposeResult:
        """Put up the canvas."""
        yield self._canvas

    def on_mount(self) -> None:
        """Start to refresh, and handle the signals that end a program."""
        self._canvas.focus()
        if not self.is_headless:
            self._mind_signals()
        self._look()
        self.set_interval(LOOK_EVERY_S, self._look)

    def on_unmount(self) -> None:
        """End what goes on beside the screen: the program would wait for it."""
        self.controller.close()

    def on_resize(self, event: Resize) -> None:
        """Draw for the new size."""
        self._draw(event.size.width, event.size.height)

    def on_key(self, event: Key) -> None:
        """Hand a key to the controller."""
        event.stop()
        event.prevent_default()
        if event.key == "ctrl+z":
            self.action_suspend_process()
            return
        # Textual has names for most characters, which change; with Alt, it has the character, too
        bare = event.is_printable and event.key != "space" and "+" not in event.key
        typed = event.character if bare else None
        self.controller.press(typed or event.key, event.character)
        if self.controller.left:
            self.exit(0)
        else:
            self._draw()

    def on_paste(self, event: Paste) -> None:
        """Hand to the controller what was pasted."""
        self.controller.paste(event.text)
        self._draw()

    def copy(self, text: str) -> None:
        """Send a text to the terminal's clipboard."""
        self.copy_to_clipboard(text)

    def run_verb(self, *words: str) -> None:
        """Give the terminal to a verb until it ends; what it says of an error can be read."""
        argv = [*_VERB, *words]
        with self.suspend(), _signals_of_others():
            code = subprocess.run(argv, check=False).returncode
            if code:
                print("\nEnter goes back to launcher top ", end="", file=sys.stderr, flush=True)  # noqa: T201  # the screen is away
                sys.stdin.readline()
        self._draw_anew()

    def _look(self) -> None:
        if not self.is_headless and not _has_terminal():
            signal.raise_signal(signal.SIGHUP)  # closed without a word: Textual would not end
        self.controller.look()
        self._draw()

    def _draw(self, width: int = 0, height: int = 0) -> None:
        size = self.size
        drawn = self.controller.draw(max(1, width or size.width), max(2, height or size.height))
        self._canvas.show(drawn)

    def _mind_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.exit, TERMINATED)
        # nothing can be drawn on a terminal that is gone, nor is there anything to save
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        suspend, resume = signal.getsignal(signal.SIGTSTP), signal.getsignal(signal.SIGCONT)

        def go_away(number: int, frame: FrameType | None) -> None:
            self._away = True
            if callable(suspend):
                suspend(number, frame)

        def come_back(number: int, frame: FrameType | None) -> None:
            # Textual would take a terminal again that it has never given back, and never end
            if self._away and callable(resume):
                resume(number, frame)
            self._away = False
            loop.call_soon_threadsafe(self._draw_anew)

        signal.signal(signal.SIGTSTP, go_away)
        signal.signal(signal.SIGCONT, come_back)

    def _draw_anew(self) -> None:
        """Fill a terminal that others have drawn on meanwhile."""
        self.screen.refresh(layout=True)
        self._canvas.refresh()
        self._look()

    def _later(self, action: Callable[[], None]) -> None:
        def apart() -> None:
            action()
            self.call_from_thread(self._draw)

        self.run_worker(apart, thread=True, exit_on_error=False)


@contextmanager
def _signals_of_others() -> Iterator[None]:
    """Leave to another program of our process group what is typed to interrupt and to suspend it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_SUSPENDING)}
    signal.signal(signal.SIGINT, lambda *_: None)  # not ignored: the program would inherit that
    for number in _SUSPENDING:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _has_terminal() -> bool:
    return sys.__stdin__ is not None and os.isatty(sys.__stdin__.fileno())
