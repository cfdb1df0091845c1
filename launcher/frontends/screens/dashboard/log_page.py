"""The page of a job's log: a part of it, and a background search."""

from pathlib import Path

from launcher.frontends.screens.dashboard.keys import LOG_HINTS
from launcher.frontends.screens.dashboard.log_search import LogSearch
from launcher.frontends.screens.dashboard.log_tail import LogTail
from launcher.frontends.screens.dashboard.page import RunInBackground, Window, highlight_line
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import TextLine, TextStyle, line, shorten

_SHOWN = 16  # columns of the search text in the bottom line
_ABOVE = 3  # a match is shown one third of the window below its top


class LogPage:
    """Shows a log, and searches it in the background."""

    hints = LOG_HINTS

    def __init__(self, run_in_background: RunInBackground) -> None:
        """Create the page without a log.

        Args:
            run_in_background: runs a search in the background.
        """
        self.log: Path | None = None  # the log to show
        self._run_in_background = run_in_background
        self._window = Window(follows=True)
        self._tail = LogTail()
        self._search: LogSearch | None = None
        self._text = ""  # text of the last search
        self._hit: int | None = None  # offset of the last match
        self._note = ""  # on the last search
        self._goal: int | None = None  # offset to scroll to

    @property
    def place(self) -> str:
        """The position in the log, or the progress of a search."""
        if self._search is not None:
            text = sanitize_terminal(shorten(self._search.text, _SHOWN))
            return f"searching {text!r}: {self._search.progress:.0%}; Esc leaves"
        if self._note:
            return self._note
        if self._window.follows:
            return "follows; k, PageUp look back; / searches"
        if self._tail.has_before or self._tail.has_after:
            return "G follows again; / searches"
        return f"line {self._window.top + 1} of {self._window.count}; G follows again"

    def search(self, text: str, *, backwards: bool = False) -> None:
        """Search a text from the current position, or from the last match if the text is unchanged."""
        self.cancel_search()
        if not text or self._tail.log is None:
            return
        hit = self._hit if text == self._text else None
        self._text = text
        start = self._tail.byte_of_row(self._window.top) if hit is None else hit + (not backwards)
        search = LogSearch(self._tail.log, text, start=start, backwards=backwards)
        self._search, self._note = search, ""
        self._run_in_background(search.run)

    def cancel_search(self) -> bool:
        """Cancel the current search; return whether there was one."""
        search, self._search = self._search, None
        if search is not None:
            search.cancel()
        return search is not None

    def press(self, key: str) -> bool:
        """Scroll, or continue the search."""
        match key:
            case "n" | "N":
                self.search(self._text, backwards=key == "N")
            case "escape":
                shown = bool(self._note)
                self._note, self._hit = "", None
                return self.cancel_search() or shown
            case "G":
                self._tail.anchor = None
                self._window.follows, self._note = True, ""
            case "g":
                self._scroll_to_byte(0)
                self._note = ""
            case _ if not self._read_beyond(key):
                return self._window.press(key)
        return True

    def draw(self, width: int, height: int) -> list[TextLine]:
        """Return the visible lines."""
        log = self.log
        if log != self._tail.log:
            self.cancel_search()
            self._hit, self._note, self._goal = None, "", None
            self._tail.anchor = None
        self._apply_search_result()
        lines = self._tail.lines(log, width, is_backwards=not self._window.follows)
        self._window.fit(len(lines), height)
        if not lines:
            absence = "it has not run yet" if log is None else "nothing is written yet"
            return [line(absence, TextStyle.DIM)]
        self._scroll_to_goal()
        window = self._window
        row = None if self._hit is None else self._tail.row_of_byte(self._hit)
        shown = [line(text) for text in lines[window.top : window.end]]
        if row is not None and window.top <= row < window.end:
            shown[row - window.top] = highlight_line(shown[row - window.top], width)
        return shown

    def _apply_search_result(self) -> None:
        """Show the result of a finished search."""
        search = self._search
        if search is None or not search.is_finished:
            return
        self._search = None
        text = sanitize_terminal(shorten(search.text, _SHOWN))
        if search.error:
            self._note = sanitize_terminal(search.error)
        elif search.hit is None:
            self._hit, self._note = None, f"{text!r} is not in this log"
        else:
            self._hit = search.hit
            self._scroll_to_byte(search.hit)
            again = f" from the {'end' if search.backwards else 'beginning'}" * search.wrapped
            self._note = f"{text!r}{again}: n next, N before"

    def _read_beyond(self, key: str) -> bool:
        """Read the next part of the log if a key scrolls beyond the current one; return whether it does."""
        window, tail = self._window, self._tail
        if key in {"k", "pageup"} and window.top == 0 and tail.has_before:
            row = 0
        elif key in {"j", "pagedown"} and window.end == window.count and tail.has_after:
            row = window.end - 1
        else:
            return False
        self._scroll_to_byte(tail.byte_of_row(row))
        return True

    def _scroll_to_byte(self, place: int) -> None:
        """Show the part of the log around an offset."""
        self._goal = self._tail.anchor = place
        self._window.follows = False

    def _scroll_to_goal(self) -> None:
        """Scroll to the requested offset."""
        goal, self._goal = self._goal, None
        row = None if goal is None else self._tail.row_of_byte(goal)
        if row is not None:
            self._window.top = 0
            self._window.move(row - self._window.height // _ABOVE)
