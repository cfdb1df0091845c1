"""The log of a job: followed as it grows, looked back in, searched."""

from pathlib import Path

from launcher.screens.dashboard.layout import Window
from launcher.screens.dashboard.logs.log_search import LogSearch
from launcher.screens.dashboard.logs.log_tail import LogTail
from launcher.screens.dashboard.page import Drawn, Later
from launcher.screens.format import harmless
from launcher.screens.text_table import Tone, line, shortened

UP = frozenset({"k", "up", "pageup"})
DOWN = frozenset({"j", "down", "pagedown", "space"})
_SHOWN = 16  # columns of what is looked for
_ABOVE = 3  # of so many parts of the window, one is above what was found


class LogPage:
    """Shows a log; a search goes on beside it."""

    def __init__(self, later: Later) -> None:
        """Begin at the end of no log.

        Args:
            later: runs a search beside everything else.
        """
        self._later = later
        self._window = Window(follows=True)
        self._tail = LogTail()
        self._log: Path | None = None
        self._search: LogSearch | None = None
        self._text = ""  # that was looked for last
        self._hit: int | None = None  # the byte that was found last
        self._note = ""  # on the last search
        self._goal: int | None = None  # the byte that is to be brought into sight

    @property
    def searches(self) -> bool:
        """A search is under way."""
        return self._search is not None

    @property
    def place(self) -> str:
        """Where in the log we are, or how far a search is."""
        if self._search is not None:
            text = harmless(shortened(self._search.text, _SHOWN))
            return f"searching {text!r}: {self._search.share:.0%}; Esc leaves"
        if self._note:
            return self._note
        if self._window.follows:
            return "follows; k, PageUp look back; / searches"
        if self._tail.has_before or self._tail.has_after:
            return "G follows again; / searches"
        return f"line {self._window.top + 1} of {self._window.count}; G follows again"

    def search(self, text: str, *, backwards: bool = False) -> None:
        """Look for a text from here on, or from what was found last if it is the same."""
        self.leave_search()
        if not text or self._log is None:
            return
        same = text == self._text and self._hit is not None
        self._text = text
        if same and self._hit is not None:
            start = self._hit if backwards else self._hit + 1
        else:
            start = self._tail.place_of(self._window.top)
        search = LogSearch(self._log, text, start=start, backwards=backwards)
        self._search, self._note = search, ""
        self._later(search.run)

    def leave_search(self) -> bool:
        """End the search that is under way; tell whether there was one."""
        search, self._search = self._search, None
        if search is not None:
            search.leave()
        return search is not None

    def press(self, key: str) -> bool:
        """Scroll, or search on."""
        match key:
            case "n" | "N":
                self.search(self._text, backwards=key == "N")
            case "escape":
                shown = bool(self._note)
                self._note, self._hit = "", None
                return self.leave_search() or shown
            case "G" | "end":
                self._tail.look_at(None)
                self._window.follows, self._note = True, ""
            case "g" | "home":
                self._goal = 0
                self._tail.look_at(0)
                self._window.follows, self._note = False, ""
            case _ if not self._turn(key):
                return self._window.press(key)
        return True

    def draw(self, log: Path | None, width: int, height: int) -> Drawn:
        """Return what the window shows."""
        if log != self._log:
            self.leave_search()
            self._log, self._hit, self._note, self._goal = log, None, "", None
            self._tail.look_at(None)
        self._take_hit()
        lines = self._tail.lines(log, width, back=not self._window.follows)
        self._window.fit(len(lines), height)
        if not lines:
            absence = "it has not run yet" if log is None else "nothing is written yet"
            return Drawn(lines=[line(absence, Tone.DIM)])
        self._reach_goal()
        window = self._window
        row = None if self._hit is None else self._tail.row_of(self._hit)
        shown = [line(text) for text in lines[window.top : window.end]]
        if row is None or not window.top <= row < window.end:
            return Drawn(lines=shown)
        return Drawn(lines=shown, chosen=range(row - window.top, row - window.top + 1))

    def _take_hit(self) -> None:
        """Take in what a search has come to."""
        search = self._search
        if search is None or not search.over:
            return
        self._search = None
        text = harmless(shortened(search.text, _SHOWN))
        if search.trouble:
            self._note = harmless(search.trouble)
        elif search.hit is None:
            self._hit, self._note = None, f"{text!r} is not in this log"
        else:
            self._hit = self._goal = search.hit
            self._tail.look_at(search.hit)
            self._window.follows = False
            again = f" from the {'end' if search.backwards else 'beginning'}" * search.wrapped
            self._note = f"{text!r}{again}: n next, N before"

    def _turn(self, key: str) -> bool:
        """Read what lies beyond the part that is shown, where a key goes there; tell whether it does."""
        window, tail = self._window, self._tail
        if key in UP and window.top == 0 and tail.has_before:
            row = 0
        elif key in DOWN and window.end == window.count and tail.has_after:
            row = window.end - 1
        else:
            return False
        place = tail.place_of(row)
        self._goal = place
        tail.look_at(place)
        window.follows = False
        return True

    def _reach_goal(self) -> None:
        """Scroll to the byte that is to be seen."""
        goal, self._goal = self._goal, None
        row = None if goal is None else self._tail.row_of(goal)
        if row is not None:
            self._window.top = 0
            self._window.move(row - self._window.height // _ABOVE)
