"""Simulated cards: programs that hold memory, keep a card busy, slow each other down and run out of memory.

    devices.add(80 * GIB)
    with SimulatedCards(devices, programs) as cards:
        argv = cards.program(gib=1.3, percent=5, seconds=4, startup=1)     # to be queued
        process = cards.start(argv, devices.cards[0].uuid)                 # not of any queue
        cards.usage()

The programs are `load.c`; the stand-in for NVML reports them to every process that uses `devices.environment`.
A card whose driver reports no use by process: `devices.refuse("nvmlDeviceGetProcessUtilization", NOT_SUPPORTED)`.
"""

import mmap
import os
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.nvml.standin import Devices

FOLDER = Path(__file__).parent
NOT_SUPPORTED = 3  # NVML_ERROR_NOT_SUPPORTED
LOOK_S = 0.05  # between two looks at the table; a program changes its load or memory a few times in its life

# card_table.h
_HEADER, _CARD, _SLOT = struct.Struct("=II"), struct.Struct("=96sQQ"), struct.Struct("=iIQd")
_CARDS, _SLOTS = 16, 512
_FIRST_SLOT = _HEADER.size + _CARDS * _CARD.size
_SIZE = _FIRST_SLOT + _SLOTS * _SLOT.size


class Programs(NamedTuple):
    """The compiled programs."""

    load: Path
    cores: Path  # a library to preload


class Run(NamedTuple):
    """A simulated program that ended by itself; seconds of the monotonic clock."""

    name: str
    pid: int
    began: float
    ended: float
    outcome: str  # done, or out-of-memory

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return self.ended - self.began


@dataclass(slots=True, kw_only=True)
class Usage:
    """How simulated cards were used since they were opened, or since `restart_usage`."""

    busy_s: float = 0.0  # card seconds of load, of at most 100 % for each card
    held_s: float = 0.0  # card seconds in which a program held memory
    most: int = 0  # programs of one card at the same time, those that still start included
    killed: int = 0  # programs that did not end by themselves


class _Slot(NamedTuple):
    place: int
    pid: int
    cards: int
    held: int
    percent: float


def compile_programs(folder: Path) -> Programs:
    """Compile the programs into `folder`.

    Raises:
        FileNotFoundError: no C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("no C compiler (cc) to build simulated programs with")
    programs = Programs(load=folder / "load", cores=folder / "cores.so")
    for file, *flags in ((programs.load,), (programs.cores, "-shared", "-fPIC")):
        source = FOLDER / f"{file.stem}.c"
        subprocess.run([compiler, "-std=gnu11", "-O1", *flags, "-o", file, source], check=True)
    return programs


class SimulatedCards:
    """The cards of some devices while simulated programs can run on them; a context manager."""

    def __init__(self, devices: Devices, programs: Programs, *, cores: int | None = None) -> None:
        """Describe the cards to programs.

        Args:
            devices: with all their cards; no simulated cards are open there.
            programs: the compiled ones.
            cores: number that every process believes it may use, by default that of this machine.
        """
        self._devices, self._programs, self._cores = devices, programs, cores
        self._runs = Path(f"{devices.table}.runs")
        self._kinds = devices.table.with_name("kinds")
        self._kinds.mkdir(exist_ok=True)
        cards = devices.cards
        table = bytearray(_SIZE)
        _HEADER.pack_into(table, 0, len(cards), 0)
        for place, card in enumerate(cards):
            row = card.uuid.encode(), int(card.values["total"]), int(card.values["used"])
            _CARD.pack_into(table, _HEADER.size + place * _CARD.size, *row)
        devices.table.write_bytes(table)
        self._runs.touch()
        for file in (devices.table, self._runs):
            file.chmod(0o666)  # programs of several users write there
        with devices.table.open("r+b") as opened:
            self._table = mmap.mmap(opened.fileno(), _SIZE)
        self._usage = Usage()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="simulated cards", daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which a program sees the cards, and so many cores."""
        if self._cores is None:
            return self._devices.environment
        preloaded = filter(None, (str(self._programs.cores), os.environ.get("LD_PRELOAD")))
        cores = {"LD_PRELOAD": ":".join(preloaded), "STANDIN_CORES": str(self._cores)}
        return self._devices.environment | cores

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._watcher.join()
        self._table.close()

    def program(
        self,
        *,
        gib: float,
        percent: float,
        seconds: float,
        startup: float = 0.0,
        crowding: float = 0.0,
        delay: float = 0.0,
        grow: float = 0.0,
        grow_after: float = 0.0,
        steps: int = 0,
        name: str = "load",
        kind: str = "load",
        words: Sequence[str] = (),
    ) -> tuple[str, ...]:
        """Return the command line of a simulated program.

        Args:
            gib: memory that it takes on each of its cards, beside its context.
            percent: of each card that its work takes if it is alone.
            seconds: of work if nothing slows it.
            startup: seconds before it creates its contexts.
            crowding: part by which each other program on its cards makes the start longer.
            delay: seconds between its contexts and the first `gib`.
            grow: GiB that it takes on each of its cards later.
            grow_after: seconds of work after which it takes them.
            steps: reports that it prints during its work; 0: none.
            name: by which `runs` lists it.
            kind: name of the file that is run; programs of one kind are one file.
            words: further arguments, which have no effect.
        """
        file = self._kinds / kind
        if not file.exists():
            # not copied: no file can be run while a process forked by another thread has it open for writing
            file.hardlink_to(self._programs.load)
        numbers: Mapping[str, float] = {
            "gib": gib,
            "percent": percent,
            "seconds": seconds,
            "startup": startup,
            "crowding": crowding,
            "delay": delay,
            "grow": grow,
            "grow-after": grow_after,
            "steps": steps,
        }
        options = [
            word for key, value in numbers.items() if value for word in (f"--{key}", f"{value:g}")
        ]
        return (str(file), "--name", name, *options, *words)

    def start(self, argv: Sequence[str], *uuids: str) -> subprocess.Popen[bytes]:
        """Start a program on cards by itself, without a queue."""
        own = {"CUDA_VISIBLE_DEVICES": ",".join(uuids)}
        environment = {**os.environ, **self._devices.environment, **own}
        silent = subprocess.DEVNULL
        return subprocess.Popen(argv, env=environment, stdin=silent, stdout=silent, stderr=silent)

    def usage(self) -> Usage:
        """Return how the cards were used so far."""
        with self._lock:
            return replace(self._usage)

    def restart_usage(self) -> None:
        """Count the use of the cards from now on."""
        with self._lock:
            self._usage = Usage()

    def runs(self) -> list[Run]:
        """Return the programs that ended by themselves, in the order of their ends."""
        rows = [line.split() for line in self._runs.read_text(encoding="utf-8").splitlines()]
        return [
            Run(name, int(pid), float(began), float(ended), outcome)
            for name, pid, began, ended, outcome in rows
        ]

    def alive(self) -> int:
        """Return how many simulated programs run now."""
        return sum(1 for _ in self._slots())

    def _slots(self) -> Iterator[_Slot]:
        table = self._table[_FIRST_SLOT:]
        for place, (pid, cards, held, percent) in enumerate(_SLOT.iter_unpack(table)):
            if pid:
                yield _Slot(place, pid, cards, held, percent)

    def _watch(self) -> None:
        """Add up the use of the cards, and clear the slots of programs that were killed."""
        last = time.monotonic()
        while not self._over.wait(LOOK_S):
            now = time.monotonic()
            living, killed = [], 0
            for slot in self._slots():
                if _lives(slot.pid):
                    living.append(slot)
                elif self._clear(slot):
                    killed += 1
            with self._lock:
                self._usage.killed += killed
                self._add(living, now - last)
            last = now

    def _add(self, living: Sequence[_Slot], passed_s: float) -> None:
        for place in range(len(self._devices.cards)):
            here = [slot for slot in living if slot.cards >> place & 1]
            load = min(100.0, sum(slot.percent for slot in here))
            self._usage.busy_s += passed_s * load / 100
            self._usage.held_s += passed_s * any(slot.held for slot in here)
            self._usage.most = max(self._usage.most, len(here))

    def _clear(self, slot: _Slot) -> bool:
        """Clear a dead program's slot; return whether it had not cleared it itself."""
        at = _FIRST_SLOT + slot.place * _SLOT.size
        pid, *_ = _SLOT.unpack_from(self._table, at)
        if pid == slot.pid:
            _SLOT.pack_into(self._table, at, 0, 0, 0, 0.0)
        return bool(pid == slot.pid)


def _lives(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}
