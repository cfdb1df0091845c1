"""The first page of `launcher top`: GPUs, running, waiting and ended jobs, and a cursor."""

from launcher.frontends.screens import queue_head, queue_view
from launcher.frontends.screens.dashboard.keys import HINTS
from launcher.frontends.screens.dashboard.list_order import ORDERS, QUEUE_ORDER, sort_snapshot
from launcher.frontends.screens.dashboard.page import (
    CursorStop,
    Layout,
    Window,
    highlight_line,
    lay_out_sections,
)
from launcher.frontends.screens.snapshots import QueueSnapshot
from launcher.system.errors import pluralize
from launcher.system.text_table import TextLine, TextSpan, TextStyle, line

MARGIN = 2  # columns before each line, for the cursor and the marks
CURSOR, MARK = "▸", "◆"
FEWEST, MOST = 40, 500  # waiting jobs that are listed: more, the further the user scrolls down
_LEAST_ROOM = 8  # lines for the sections; with fewer there is no line on jobs below the window
AHEAD = 20  # jobs that are read beyond the selected one


class Overview:
    """Shows successive snapshots; the cursor stays on its job."""

    hints = HINTS

    def __init__(self) -> None:
        """Start at the top, with the first job."""
        self.waiting = FEWEST  # number of waiting jobs to read
        self.message = ""  # shown if there are no sections
        self.marked: set[int] = set()
        self._newest: QueueSnapshot | None = None  # in the queue's order
        self._sorted_snapshot: QueueSnapshot | None = None  # the same in the shown order
        self._layout = Layout(lines=(), stops=(), tops=())
        self._drawn_for: tuple[QueueSnapshot | None, int] = (None, 0)
        self._place = 0  # index of the selected job among all stops
        self._moved = False  # the user has selected a job; otherwise the first one is selected
        self._window = Window()
        self._order, self._reverse = QUEUE_ORDER, False

    @property
    def jobs(self) -> list[int]:
        """The marked jobs, or the selected one if none is marked."""
        return sorted(self.marked) or ([] if self.job is None else [self.job])

    @property
    def job(self) -> int | None:
        """The selected job."""
        return None if self._selected_stop is None else self._selected_stop.job

    @property
    def _selected_stop(self) -> CursorStop | None:
        stops = self._layout.stops
        return stops[self._place] if stops else None

    def show(self, screen: QueueSnapshot) -> None:
        """Show a snapshot in the selected order."""
        self._newest = screen
        searched = (
            self._sorted_snapshot is not None
            and self._sorted_snapshot.search_text != screen.search_text
        )
        self._sorted_snapshot = sort_snapshot(screen, self._order, reverse=self._reverse)
        if searched:
            self._place, self._window.top, self._moved = 0, 0, False

    def press(self, key: str) -> bool:
        """Move the cursor, mark jobs, or change the order."""
        match key:
            case "s" | "S":
                self._sort(key)
            case "m" | "M":
                self._mark(key)
            case "U":
                self.marked.clear()
            case _ if self._move(key):
                self._moved = key != "g"
            case _:
                return False
        return True

    def _mark(self, key: str) -> None:
        chosen = self._selected_stop
        if chosen is None:
            return
        if key == "m":
            self.marked ^= {chosen.job}
            self._select_stop(self._place + 1)
            self._moved = True
            return
        listed = {stop.job for stop in self._layout.stops if stop.section == chosen.section}
        # if all of them are marked already, unmark them
        self.marked = self.marked - listed if listed <= self.marked else self.marked | listed

    def _sort(self, key: str) -> None:
        if key == "s":
            self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS)]
        self._reverse = self._order != QUEUE_ORDER and self._reverse != (key == "S")
        self.waiting = FEWEST if self._order == QUEUE_ORDER else MOST
        # a new order is shown from its beginning
        self._place, self._moved = 0, False
        if self._newest is not None:
            self.show(self._newest)

    def _move(self, key: str) -> bool:
        match key:
            case "j" if self._selected_stop is not None and not self._is_visible(
                self._selected_stop
            ):
                self._select_stop(self._place)  # the place is below the window
            case "j":
                self._select_stop(self._place + 1)
            case "k" if self._place == 0:
                self._window.move(-1)  # to the lines above the first job
            case "k":
                self._select_stop(self._place - 1)
            case "tab" | "shift+tab":
                self._change_section(-1 if key == "shift+tab" else 1)
            case "g":
                self._select_stop(0)
                self._window.top = 0
            case "G":
                self._select_stop(len(self._layout.stops) - 1)
                self._window.move(len(self._layout.lines))
            case "pagedown":
                self._scroll_page(self._window.page)
            case "pageup":
                self._scroll_page(-self._window.page)
            case _:
                return False
        return True

    def draw(self, width: int, height: int) -> list[TextLine]:
        """Return the head of the screen, and the lines in the window."""
        if self._sorted_snapshot is None:
            return [line("looking …", TextStyle.DIM)]
        head = [*queue_head.head(self._sorted_snapshot, width), line("")][: max(1, height // 2)]
        self._lay_out(self._sorted_snapshot, width)
        layout, window, room = self._layout, self._window, height - len(head)
        window.fit(len(layout.lines), room)
        foot = (
            self._hidden_waiting_lines(self._sorted_snapshot, width) if room > _LEAST_ROOM else []
        )
        if foot:
            window.fit(len(layout.lines), room - len(foot))
        if not layout.lines:
            return [*head, line(self.message).truncate(width)][:height]
        first, end = (
            (0, 0)
            if self._selected_stop is None
            else (self._selected_stop.first, self._selected_stop.end)
        )
        marked = {stop.first for stop in layout.stops if stop.job in self.marked}
        lines = [
            _with_margin(
                layout.lines[number], is_chosen=number == first < end, is_marked=number in marked
            )
            for number in range(window.top, window.end)
        ]
        for number in range(max(first, window.top) - window.top, min(end, window.end) - window.top):
            lines[number] = highlight_line(lines[number], width)
        return [*head, *lines, *foot]

    def _hidden_waiting_lines(self, screen: QueueSnapshot, width: int) -> list[TextLine]:
        """Return a line on the waiting jobs if all of them are below the window."""
        firsts = (stop.first for stop in self._layout.stops if stop.section == "waiting")
        if next(firsts, 0) < self._window.end:
            return []
        count = pluralize(len(screen.waiting) + screen.more, "waiting job")
        text = f"{' ' * MARGIN}… {count} below: Tab goes to the next section"
        return [line(text, TextStyle.DIM).truncate(width)]

    def _lay_out(self, screen: QueueSnapshot, width: int) -> None:
        """Lay out the lines of the newest snapshot, and find the selected job among them."""
        if self._drawn_for == (screen, width):
            return
        narrowed = self._drawn_for[1] != width
        self._drawn_for = (screen, width)
        before = self._selected_stop if self._moved else None
        self._layout = lay_out_sections(queue_view.sections(screen, width - MARGIN))
        self._place = self._layout.find(before, self._place)
        if before is None or self._selected_stop is None:
            return
        if narrowed or self._place:
            if self._window.top and not narrowed:
                # the selected line stays on its row
                self._window.top += self._selected_stop.first - before.first
            self._window.count = len(self._layout.lines)
            self._window.show(self._selected_stop.first, self._selected_stop.end)

    def _select_stop(self, place: int) -> None:
        """Select a job, and scroll to it."""
        stops = self._layout.stops
        if not stops:
            self._window.move(1 if place > self._place else -1)
            return
        self._place = min(max(0, place), len(stops) - 1)
        chosen = stops[self._place]
        self._window.show(chosen.first, chosen.end)
        if chosen.section == "waiting":
            listed = [stop for stop in stops if stop.section == "waiting"]
            beyond = listed.index(chosen) + max(AHEAD, 2 * self._window.height)
            if beyond > self.waiting:
                self.waiting = min(MOST, beyond + FEWEST)

    def _change_section(self, amount: int) -> None:
        """Scroll another section to the top of the window, and select its first job."""
        here = self._window.top
        if self._selected_stop is not None and self._selected_stop.first < self._window.end:
            here = max(here, self._selected_stop.first)
        tops = self._layout.tops
        place = sum(top <= here for top in tops) - 1 + amount
        if not 0 <= place < len(tops):
            return
        self._window.top = tops[place]
        stops = enumerate(self._layout.stops)
        number = next((n for n, stop in stops if stop.first >= tops[place]), None)
        if number is not None:
            self._select_stop(number)

    def _scroll_page(self, lines: int) -> None:
        """Scroll by a page, and select the first job there, or the last one at the end."""
        before = self._window.top
        self._window.move(lines)
        stops = self._layout.stops
        if not stops:
            return
        if self._window.top == before:
            self._select_stop(len(stops) - 1 if lines > 0 else 0)
            return
        seen = [n for n, stop in enumerate(stops) if self._is_visible(stop)]
        if seen:
            self._select_stop(next((n for n in seen if before < stops[n].end), seen[0]))

    def _is_visible(self, stop: CursorStop) -> bool:
        """Return whether the window shows a job, completely if it fits."""
        window = self._window
        return stop.first == window.top or (window.top < stop.first and stop.end <= window.end)


def _with_margin(row: TextLine, *, is_chosen: bool, is_marked: bool) -> TextLine:
    cursor = TextSpan(CURSOR if is_chosen else " ", TextStyle.STRONG)
    return TextLine(
        (cursor, TextSpan(MARK if is_marked else " ", TextStyle.WARN), *row.spans), row.job
    )
