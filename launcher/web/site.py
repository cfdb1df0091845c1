"""All pages of a home, rendered: as answers to requests, and again and again as what of them changed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from launcher.screens.format import harmless
from launcher.screens.screen import Scheduler
from launcher.screens.snapshots import scheduler_of, short_path
from launcher.states import OPEN, State
from launcher.web.pages.page import Address, Content, NotThere, Page, View
from launcher.web.pages.registry import PAGES
from launcher.web.rendering import Rendered, asset_version, render


class Head(NamedTuple):
    """What stands above every page."""

    home: str
    scheduler: Scheduler
    counts: Mapping[State, int]
    there: bool  # there is a queue

    @property
    def waiting(self) -> int:
        """Jobs that have not ended and do not run."""
        return sum(self.counts.get(state, 0) for state in OPEN - {State.RUNNING})

    @property
    def idle(self) -> bool:
        """Jobs are open, and nothing is there that starts them or sees them end."""
        alive = self.scheduler.pid is not None
        return not alive and bool(self.waiting or self.counts.get(State.RUNNING))


class Shown(NamedTuple):
    """A rendered page, and the files on which it rests beside the queue."""

    rendered: Rendered
    files: tuple[Path, ...] = ()
    pending: bool = False  # it is another soon


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Renders pages."""

    root: str  # the path of the first page, with a slash at its end

    def show(self, view: View, page: Page, address: Address, *, notice: str = "") -> Shown:
        """Return a page as it is now.

        Args:
            view: the queue.
            page: which.
            address: what was asked for.
            notice: stands above it.

        Raises:
            NotThere: there is none.
            Error: the queue cannot be read.
        """
        content = page.fill(view, address)
        values = {**content.values, "renewed": True, "notice": notice}
        content = replace(content, values=values)
        rendered = self.fill(view, f"{page.name}.html", address, content)
        return Shown(rendered=rendered, files=content.files, pending=content.pending)

    def fill(self, view: View, template: str, address: Address, content: Content) -> Rendered:
        """Return a template filled with a page's values, and with what stands on every page."""
        common: dict[str, object] = {
            "root": self.root,
            "assets": asset_version(),
            "menu": [page for page in PAGES if page.menu],
            "address": address,
            "title": content.title,
            "head": head_of(view),
            "renewed": False,  # by a stream
            "notice": "",
            "now": view.now,
            "read_only": view.read_only,
        }
        return render(template, {**common, **content.values})


def head_of(view: View) -> Head:
    """Return what stands above every page, also where there is no queue."""
    try:
        counts = view.store.read.counts()
    except NotThere:
        counts = {}
    return Head(
        home=harmless(short_path(view.home.folder)),
        scheduler=scheduler_of(view.home),
        counts=counts,
        there=view.queue.store is not None,
    )
