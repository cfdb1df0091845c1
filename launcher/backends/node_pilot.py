"""A pilot on its node: says what it has, runs what it is ordered to, reports how that ends, and leaves.

Its process is `python -P -m launcher.pilots FOLDER`, as an engine starts it there.

It decides nothing. While orders come it looks for them fifty times a second; where none come, ever more seldom. On a
full disk its news wait for room, and no end is lost.
"""

import contextlib
import errno
import logging
import os
import select
import signal
import time
from collections.abc import Iterable
from math import inf

from launcher.backends.channel import Reader
from launcher.backends.node_attempts import Attempts
from launcher.backends.node_facts import Facts
from launcher.backends.node_gpus import NodeGpus
from launcher.backends.outbox import Outbox
from launcher.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.backends.pilot_messages import (
    Beat,
    Bye,
    Ended,
    Kill,
    Lease,
    Leave,
    Leaving,
    News,
    Run,
    Stop,
    read_order,
)
from launcher.system import memory
from launcher.system.paths import Home
from launcher.units import format_seconds
from launcher.workers import lease

QUICK_S, SLOW_S = (
    0.02,
    0.5,
)  # between two looks for orders: while they come, and after a while without
SLOWER = 1.25  # times longer after each look that saw none
GPU_BEAT_S = 1.0  # between two beats while the memory in use on a GPU changes
LEASE_BEATS = 4  # beats in the time of a lease, at least
BEATS_KEPT = 4096  # whose answers can still come
GONE_PATIENCE_S = 60.0  # without its folder, a pilot leaves
END_PATIENCE_S = 5.0  # for supervisors to end what runs when the lease is over
ORDERS_STOP = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
_GONE = {errno.ENOENT, errno.ESTALE}

logger = logging.getLogger(__name__)


class Pilot:
    """One pilot, from its hello to its bye."""

    def __init__(self, folder: PilotFolder, spec: PilotSpec, home: Home, facts: Facts) -> None:
        """Begin without attempts.

        Args:
            folder: its own.
            spec: what it is to be.
            home: the node's, for fork servers.
            facts: what there is on the node.
        """
        hello, now = facts.hello, time.monotonic()
        self._spec, self._folder = spec, folder
        self._orders, self._outbox = Reader(folder.orders), Outbox(folder.news)
        self._lease_s = inf if spec.lease_s is None else spec.lease_s
        self._lease = lease.make_lease(home)
        self._lease.run_until(lease.now() + self._lease_s)
        self._beat_s = min(spec.beat_s, self._lease_s / LEASE_BEATS)
        self._beats: dict[int, float] = {}  # number → when it was sent, by the lease's clock
        self._number = 0
        self._beat_at = now
        self._wakeup, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._attempts = Attempts(home, folder, hello.cpus)
        snapshot = facts.probe.snapshot if facts.probe else tuple
        self._gpus = NodeGpus(hello.gpus, snapshot, self._ring)
        self._pause_s, self._look_at = QUICK_S, now
        self._busy_at = now
        self._trouble = ""  # orders could not be read
        self._gone_since: float | None = None  # our folder cannot be read
        self._signal = ""
        self._buried = False
        self._why = ""  # we leave
        self._outbox.add([hello])

    def serve(self) -> str:
        """Serve until it is time to leave; return why."""
        self._listen_to_signals()
        readable: set[int] = set()
        while True:
            if self._lease.is_over():
                return self._end("its lease expired: the scheduler was silent for too long")
            now = time.monotonic()
            self._look_for_orders(now)
            self._heed_signal()
            self._tell(self._attempts.advance(readable), now)
            self._beat(now)
            self._outbox.send(now)
            if self._gone_since is not None and now > self._gone_since + GONE_PATIENCE_S:
                return self._end("its folder was deleted")
            if not self._attempts and not self._outbox.holds_ends:
                if not self._why and now > self._busy_at + self._spec.idle_s:
                    self._leave(f"without work for {format_seconds(self._spec.idle_s)}")
                if self._why and not self._last_orders():
                    return self._bye(self._why)
            readable = self._sleep()

    def close(self) -> None:
        """End fork servers."""
        self._attempts.close()

    # --- orders

    def _look_for_orders(self, now: float) -> bool:
        """Carry out what was ordered since the last look; tell whether there was any."""
        if now < self._look_at:
            return False
        came = False
        try:
            for line in self._orders.lines():
                came = True
                self._carry_out(line, now)
            self._gone_since = None
        except OSError as error:
            if error.errno in _GONE:
                self._gone_since = self._gone_since or now
            elif str(error) != self._trouble:
                self._trouble = str(error)
                logger.warning("messages of the scheduler cannot be read: %s", error)
        self._pause_s = QUICK_S if came else min(SLOWER * self._pause_s, SLOW_S)
        self._look_at = now + self._pause_s
        return came

    def _carry_out(self, line: bytes, now: float) -> None:
        match read_order(line):
            case Run(attempt=name):
                if self._why:
                    self._tell(
                        self._attempts.refuse(name, f"its pilot is ending: {self._why}"), now
                    )
                else:
                    self._attempts.run(name)
                self._busy_at = now
            case Stop(attempt=name):
                self._tell(self._attempts.stop(name), now)
            case Kill(attempt=name):
                self._tell(self._attempts.kill_one(name), now)
            case Lease(beat=number):
                self._renew(number)
            case Leave(now=at_once):
                self._leave("the scheduler requested it")
                if at_once:
                    self._tell(self._attempts.stop_all(), now)

    def _renew(self, number: int) -> None:
        """Let the lease run from when we sent the beat that was answered, not from now: the answer may be old."""
        sent = self._beats.get(number)
        if sent is not None:
            self._lease.run_until(sent + self._lease_s)
            self._beats = {beat: at for beat, at in self._beats.items() if beat > number}

    def _last_orders(self) -> bool:
        """Look once more before we say bye; tell whether there is something to run."""
        self._look_at = 0.0
        self._look_for_orders(time.monotonic())
        return bool(self._attempts) or self._outbox.holds_ends

    def _leave(self, why: str, signal: str = "") -> None:
        """Take nothing more; told at once, since what is refused would be sent here again."""
        if not self._why:
            self._why = why
            self._outbox.add([Leaving(why=why, signal=signal)])

    def _heed_signal(self) -> None:
        if self._signal:
            why = f"the engine is about to end it ({self._signal})"
            name, self._signal = self._signal, ""
            logger.info("received %s; the jobs get SIGTERM", name)
            self._leave(why, name)
            self._tell(self._attempts.stop_all(), time.monotonic())

    # --- news

    def _tell(self, news: Iterable[News], now: float) -> None:
        for item in news:
            if isinstance(item, Ended):  # what follows comes soon
                self._pause_s, self._busy_at = QUICK_S, now
                self._look_at = min(self._look_at, now + QUICK_S)
            self._outbox.add([item])

    def _beat(self, now: float) -> None:
        heads = self._attempts.heads
        due_at = self._beat_at
        if heads or now >= due_at:
            self._gpus.look(heads)
        if heads and self._gpus.changed:
            due_at = min(due_at, self._beat_at - self._beat_s + GPU_BEAT_S)
        if now < due_at:
            return
        self._heed_burial(now)
        self._number += 1
        self._beats[self._number] = lease.now()  # before it is sent
        self._beats.pop(self._number - BEATS_KEPT, None)
        self._outbox.add(
            [
                Beat(
                    number=self._number,
                    ram_free=memory.available(),
                    gpus=self._gpus.gpus,
                    used=self._gpus.take_peaks(),
                )
            ]
        )
        self._beat_at = now + self._beat_s

    def _heed_burial(self, now: float) -> None:
        """Have all that runs end where the scheduler has given us up; it awaits the records of these ends."""
        if self._buried:
            return
        with contextlib.suppress(OSError):
            self._buried = lease.is_buried(self._folder.folder)
        if self._buried:
            self._leave("the scheduler has abandoned it")
            self._tell(self._attempts.stop_all(), now)

    def _bye(self, why: str) -> str:
        self._outbox.add([Bye(why=why)])
        self._outbox.send(inf)
        return why

    def _end(self, why: str) -> str:
        """End all that runs, without outcomes: nothing of it counts any more."""
        logger.warning("%s; the jobs are ended", why)
        self._lease.end()
        deadline = time.monotonic() + END_PATIENCE_S
        for _ in self._attempts.stop_all():
            pass  # what waited never begins; supervisors wake, see the lease, and end what they run
        while self._attempts and time.monotonic() < deadline:
            for _ in self._attempts.advance(self._sleep(0.1)):
                pass
        self._attempts.kill()
        return self._bye(why)

    # --- waiting

    def _sleep(self, most_s: float = inf) -> set[int]:
        """Sleep until something is to be done; return the descriptors that have news."""
        now = time.monotonic()
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        for descriptor in self._attempts.descriptors():
            poll.register(descriptor, select.POLLIN)
        heads = self._gpus and self._attempts.heads
        times = [
            most_s,
            self._look_at - now,
            self._beat_at - now,
            GPU_BEAT_S if heads else inf,
            self._lease.until - lease.now(),
            self._outbox.due_s(now),
            self._attempts.due_s(now),
        ]
        wait_s = max(0.0, min(times))
        readable = {descriptor for descriptor, _ in poll.poll(wait_s * 1000)}
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup, 4096)
        return readable

    def _ring(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake, b".")

    def _listen_to_signals(self) -> None:
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in ORDERS_STOP:
            signal.signal(number, self._note)

    def _note(self, number: int, _: object) -> None:
        self._signal = signal.Signals(number).name
