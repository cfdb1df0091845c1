"""The link of the scheduler to one pilot: which orders it has sent, and which news it has read."""

import logging
import math
import os
from collections import deque
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from launcher.backends.channel import Reader, Writer
from launcher.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.backends.pilot_messages import (
    Beat,
    Bye,
    Ended,
    Hello,
    Kill,
    Lease,
    Leave,
    Leaving,
    News,
    Order,
    Run,
    Stop,
    order_line,
    read_news,
    read_order,
)
from launcher.system.answering import within

logger = logging.getLogger(__name__)


BLOCK = 1 << 19  # bytes of news that came at once; then more may be there


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
        self.heard_at = -math.inf  # when something new was read last, monotonic
        self.leaving = False  # it takes no more attempts: it was told so, or says so
        self.ends_at: float | None = None  # seconds since 1970, as its engine said last
        self.end = ""  # how it ended, as its engine said last; '': it has not said so
        self.signal = ""  # that its engine sent to have it end
        self._lines = deque[bytes]()  # that were read, and not taken in
        self._reader, self._writer = Reader(folder.news), Writer(folder.orders)
        self._sent: set[str] | None = None  # attempts that it was sent; None: not read yet
        self.unsent: list[Order] = []  # that could not be written; `send()` tries it again
        self.expected: set[str] = set()  # attempts whose ends are not taken in
        self.ends: dict[str, Ended] = {}  # by attempt, as the pilot has told
        self.stopping: set[str] = set()  # attempts that we have asked to end
        self.killing: set[str] = set()  # attempts that we have ordered to be killed

    @property
    def token(self) -> str:
        """The name of the pilot."""
        return self.folder.token

    @property
    def root(self) -> Path:
        """The folder in which those of all pilots lie that a backend has."""
        return self.folder.folder.parent

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
        self.fetch()
        return self.take(now)

    def fetch(self) -> None:
        """Read what is new, for `take`; that may end long after it was given up."""
        try:
            while True:
                before = self._reader.offset
                self._lines.extend(self._reader.lines())
                if self._reader.offset - before < BLOCK:
                    break
            self.trouble = ""
        except OSError as error:
            self.note(f"{self.folder.news}: {error.strerror or error}")

    def take(self, now: float) -> list[News]:
        """Take in what was read; see `read`."""
        news: list[News] = []
        while self._lines:
            news += filter(None, [read_news(self._lines.popleft())])
        if news:
            self.heard_at = now
            self._take_in(news)
            if self.spec.lease_s is not None and self.beat is not None and self.said_bye is None:
                self.send(Lease(beat=self.beat.number))  # extends it
        return news

    def _take_in(self, news: Iterable[News]) -> None:
        for item in news:
            match item:
                case Hello():
                    self.hello = item
                case Beat():
                    self.beat = item
                case Ended(attempt=attempt) if attempt in self.expected:
                    self.ends[attempt] = item
                case Leaving(signal=signal):
                    self.leaving, self.signal = True, signal
                case Bye(why=why):
                    self.said_bye = why

    def send(self, *orders: Order) -> bool:
        """Send orders; those that cannot be written now go with the next ones. Returns whether they went."""
        self.unsent += orders
        self.leaving = self.leaving or any(isinstance(order, Leave) for order in orders)
        if not self.unsent:
            return True
        try:
            sent = within(self.root, partial(self._write, [*map(order_line, self.unsent)]))
        except OSError as error:
            self.note(f"{self.folder.orders}: {error.strerror or error}")
            return False
        sent.update(order.attempt for order in self.unsent if isinstance(order, Run))
        self.unsent.clear()
        return True

    def _write(self, lines: Iterable[bytes]) -> set[str]:
        """Append orders; return the attempts that were sent before. What was given up may be sent twice."""
        sent = self._read_sent()
        self._writer.append(*lines)
        return sent

    # --- attempts

    def expect(self, attempt: str) -> None:
        """Keep the end of an attempt when it comes; to be called before that can be read."""
        self.expected.add(attempt)

    def start(self, attempts: Iterable[str]) -> bool:
        """Send attempts to the pilot, those that it was not sent before."""
        sent = self._sent or set()  # a pilot that gets one again knows it
        return self.send(*(Run(attempt=name) for name in attempts if name not in sent))

    def stop(self, attempt: str) -> None:
        """Have an attempt end."""
        if attempt not in self.stopping:
            self.stopping.add(attempt)
            self.send(Stop(attempt=attempt))

    def kill(self, attempt: str) -> None:
        """Have an attempt killed without a grace period."""
        if attempt not in self.killing:
            self.killing.add(attempt)
            self.send(Kill(attempt=attempt))

    def forget(self, attempt: str) -> None:
        """Know that an attempt's end is taken in."""
        self.expected.discard(attempt)
        self.killing.discard(attempt)
        self.stopping.discard(attempt)
        self.ends.pop(attempt, None)
        if self._sent is not None:
            self._sent.discard(attempt)

    @property
    def is_emptied(self) -> bool:
        """Whether all attempts that may run there were asked to end."""
        return bool(self.expected) and self.expected <= self.stopping

    def sent(self) -> set[str]:
        """Return the attempts that the pilot was sent, by whichever scheduler.

        They are read once; a line that an earlier scheduler could not finish is closed then.

        Raises:
            OSError: that cannot be read now.
        """
        return self._sent if self._sent is not None else within(self.root, self._read_sent)

    def _read_sent(self) -> set[str]:
        if self._sent is not None:
            return self._sent
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
        return sent

    def note(self, trouble: str) -> None:
        """Know why it cannot be heard or sent anything now."""
        if trouble != self.trouble:
            logger.warning("pilot=%s trouble=%r", self.token, trouble)
        self.trouble = trouble
