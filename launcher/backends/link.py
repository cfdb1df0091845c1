"""The scheduler's end of a pilot: what it is sent, what it tells, since when it is silent."""

import logging
import os
from collections.abc import Iterable
from math import inf

from launcher.backends.messages import (
    Beat,
    Began,
    Bye,
    Ended,
    Hello,
    Lease,
    Leave,
    Leaving,
    News,
    Order,
    Reader,
    Run,
    Stop,
    Writer,
    order_line,
    read_news,
    read_order,
)
from launcher.backends.pilot_folder import PilotFolder, PilotSpec

BLOCK = 1 << 19  # bytes of news that came at once; then more may be there

logger = logging.getLogger(__name__)


class PilotLink:
    """One pilot, as the scheduler hears it.

    All that is known here is in its two files: a scheduler that begins reads both from their start.
    """

    def __init__(self, folder: PilotFolder, spec: PilotSpec) -> None:
        """Begin without having read anything.

        Args:
            folder: the pilot's, which is made already.
            spec: what it was to be.
        """
        self.folder, self.spec = folder, spec
        self.hello: Hello | None = None
        self.beat: Beat | None = None  # the newest
        self.said_bye: str | None = None  # why it leaves
        self.trouble = ""  # why it cannot be heard or sent anything now
        self.heard_at = -inf  # when something new was read last, monotonic
        self.leased_at = -inf  # when the newest lease was sent, monotonic
        self.leaving = False  # it takes no more attempts: it was told so, or says so
        self.ends_at: float | None = None  # seconds since 1970, as its engine said last
        self.end = ""  # how it ended, as its engine said last; '': it has not said so
        self.signal = ""  # that its engine sent to have it end
        self._reader, self._writer = Reader(folder.news), Writer(folder.orders)
        self._sent: set[str] | None = None  # attempts that it was sent; None: not read yet
        self._unsent: list[Order] = []
        self._expected: set[str] = set()
        self._ends: dict[str, Ended] = {}
        self._stopping: set[str] = set()

    @property
    def token(self) -> str:
        """The name of the pilot."""
        return self.folder.token

    @property
    def serves(self) -> bool:
        """Whether it may be sent work: it is up, sees all that it needs, and does not leave."""
        up = self.hello is not None and not self.hello.troubles
        return up and self.said_bye is None and not self.leaving

    @property
    def until(self) -> float | None:
        """When its engine ends it, in seconds since 1970; None: never, or that is not known."""
        if self.ends_at is not None or self.hello is None:
            return self.ends_at
        return self.hello.until

    def silent_s(self, now: float) -> float:
        """Return for how many seconds nothing was heard of it; infinite: it never spoke.

        Args:
            now: monotonic.
        """
        return now - self.heard_at

    def read(self, now: float) -> list[News]:
        """Read what is new; ends of attempts that nobody expects are left out.

        Args:
            now: monotonic.
        """
        news: list[News] = []
        try:
            while True:
                before = self._reader.offset
                news += filter(None, map(read_news, self._reader.lines()))
                if self._reader.offset - before < BLOCK:
                    break
            self.trouble = ""
        except OSError as error:
            self._note(f"{self.folder.news}: {error.strerror or error}")
        if news:
            self.heard_at = now
            self._take_in(news)
            self._answer(now)
        return news

    def _take_in(self, news: Iterable[News]) -> None:
        for item in news:
            match item:
                case Hello():
                    self.hello = item
                case Beat():
                    self.beat = item
                case Ended(attempt=attempt) if attempt in self._expected:
                    self._ends[attempt] = item
                case Leaving(signal=signal):
                    self.leaving, self.signal = True, signal
                case Bye(why=why):
                    self.said_bye = why
                case Began() | Ended():
                    pass

    def _answer(self, now: float) -> None:
        """Extend the lease, where the pilot has one."""
        if self.spec.lease_s is not None and self.beat is not None and self.said_bye is None:
            self.send(Lease(beat=self.beat.number))
            self.leased_at = now

    def send(self, *orders: Order) -> bool:
        """Send orders; those that cannot be written now go with the next ones. Returns whether they went."""
        self._unsent += orders
        self.leaving = self.leaving or any(isinstance(order, Leave) for order in orders)
        if not self._unsent:
            return True
        try:
            self._know_sent()
            self._writer.append(*map(order_line, self._unsent))
        except OSError as error:
            self._note(f"{self.folder.orders}: {error.strerror or error}")
            return False
        self._sent = (self._sent or set()) | {
            order.attempt for order in self._unsent if isinstance(order, Run)
        }
        self._unsent.clear()
        return True

    @property
    def unsent(self) -> bool:
        """Whether orders wait that could not be written; `send()` tries it again."""
        return bool(self._unsent)

    # --- attempts

    def expect(self, attempt: str) -> None:
        """Keep the end of an attempt when it comes; to be called before that can be read."""
        self._expected.add(attempt)

    def start(self, attempts: Iterable[str]) -> bool:
        """Send attempts to the pilot, those that it was not sent before."""
        sent = self._sent or set()  # a pilot that gets one again knows it
        return self.send(*(Run(attempt=name) for name in attempts if name not in sent))

    def stop(self, attempt: str) -> None:
        """Have an attempt end."""
        if attempt not in self._stopping:
            self._stopping.add(attempt)
            self.send(Stop(attempt=attempt))

    def end_of(self, attempt: str) -> Ended | None:
        """Return the news of an attempt's end, None where there is none yet."""
        return self._ends.get(attempt)

    def forget(self, attempt: str) -> None:
        """Know that an attempt's end is taken in."""
        self._expected.discard(attempt)
        self._stopping.discard(attempt)
        self._ends.pop(attempt, None)
        if self._sent is not None:
            self._sent.discard(attempt)

    def is_stopping(self, attempt: str) -> bool:
        """Tell whether we have asked an attempt to end."""
        return attempt in self._stopping

    @property
    def is_emptied(self) -> bool:
        """Whether all attempts that may run there were asked to end."""
        return bool(self._expected) and self._expected <= self._stopping

    @property
    def expected(self) -> frozenset[str]:
        """The attempts whose ends are not taken in."""
        return frozenset(self._expected)

    def sent(self) -> frozenset[str]:
        """Return the attempts that the pilot was sent, by whichever scheduler.

        Raises:
            OSError: that cannot be read now.
        """
        self._know_sent()
        return frozenset(self._sent or ())

    def _know_sent(self) -> None:
        """Read what earlier schedulers sent; a line that one of them could not finish is closed."""
        if self._sent is not None:
            return
        orders = Reader(self.folder.orders)
        sent: set[str] = set()
        while True:
            before = orders.offset
            for order in map(read_order, orders.lines()):
                match order:
                    case Run(attempt=attempt):
                        sent.add(attempt)
                    case Leave():
                        self.leaving = True
            if orders.offset == before:
                break
        if os.stat(self.folder.orders).st_size > orders.offset:  # noqa: PTH116
            self._writer.append(b"\n")
        self._sent = sent

    def _note(self, trouble: str) -> None:
        if trouble != self.trouble:
            logger.warning("pilot=%s trouble=%r", self.token, trouble)
        self.trouble = trouble
