"""The other end of a pilot's two files, in a test's hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import cast

from launcher import __version__
from launcher.backends.channel import (
    Hello,
    News,
    Order,
    PilotFolder,
    PilotSpec,
    Reader,
    Writer,
    make_pilot_folder,
    news_line,
    read_order,
)
from launcher.backends.fleet import Fleet
from launcher.backends.pilot import PilotLink
from launcher.backends.pilot_rules import Demand

HELLO = Hello(version=__version__, python="", host="n1", pid=1, boot="b", cpus=2, ram=1 << 30)


class Pilot:
    """A pilot that says what a test has it say."""

    def __init__(
        self,
        folder: Path,
        token: str = "lp-1",
        *,
        backend: str = "box",
        lease_s: float | None = None,
        single: bool = False,
    ) -> None:
        self.folder = PilotFolder(folder / token)
        self.spec = PilotSpec(
            token=token,
            backend=backend,
            version=__version__,
            cpus=2,
            lease_s=lease_s,
            single=single,
        )
        make_pilot_folder(self.folder, self.spec)
        self._reader = Reader(self.folder.orders)

    def link(self) -> PilotLink:
        """The end of a scheduler that has just begun."""
        return PilotLink(self.folder, self.spec)

    def tell(self, *news: News) -> None:
        Writer(self.folder.news).append(*map(news_line, news))

    def orders(self) -> list[Order | None]:
        """What it was sent since the last call."""
        return [read_order(line) for line in self._reader.lines()]


@dataclass
class ToyFleet:
    """Pilots that a test lets live and die."""

    pilots: list[PilotLink] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    ending: float = inf  # for how long all that lives of lost pilots has been ending
    unreadable: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)  # tokens whose attempts are ended
    # what each turn said: how much work waits, and where attempts are
    turns: list[tuple[Mapping[str, Demand], Mapping[str, int]]] = field(default_factory=list)

    @property
    def fleet(self) -> Fleet:
        return cast("Fleet", self)

    @property
    def links(self) -> Sequence[PilotLink]:
        # as a real one that has not looked since they were told to leave
        heard = [link for link in self.all_links if link.token not in self.lost]
        return [link for link in heard if link.hello and not link.hello.troubles]

    @property
    def all_links(self) -> Sequence[PilotLink]:
        return [link for link in self.pilots if link.token not in self.done]

    def given_up(self) -> Mapping[str, str]:
        return {token: why for token, why in self.lost.items() if token not in self.done}

    def ending_s(self, token: str) -> float:
        return self.ending

    def buried(self, token: str) -> None:
        self.done.append(token)

    def is_unreadable(self, token: str) -> bool:
        return token in self.unreadable

    def reasons(self) -> Mapping[str, str]:
        return self.why

    def due_s(self) -> float:
        return 60.0

    def turn(self, demand: Mapping[str, Demand], busy: Mapping[str, int]) -> None:
        self.turns.append((demand, busy))
