"""What tests cost: CPU seconds with all that they start, processes, and seconds in which they wait.

`python -m pytest -p tests.costs tests/e2e` appends one line per test to build/costs.jsonl, or to the file that COSTS
names. `python -m tests.costs FILE…` sums them by folder. `--write` lists slow modules in tests/dear.txt. `make quick`
skips those, and `make test` begins with the slowest one. The time of children and daemons is measured by a control
group, the number of processes by the kernel's connector. Both need root. Otherwise only the time of awaited children
counts, and processes are not counted. The cost of a module or session fixture belongs to the first test that uses it.
"""

import argparse
import contextlib
import json
import os
import socket
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FILE = Path(os.environ.get("COSTS", ROOT / "build" / "costs.jsonl"))
GROUPS = Path("/sys/fs/cgroup")
NETLINK_CONNECTOR, OF_PROCESSES = 11, 1  # linux/connector.h: CN_IDX_PROC, CN_VAL_PROC
HEAD = struct.Struct("=IHHII IIIIHH")  # struct nlmsghdr, struct cn_msg
# struct proc_event: what, processor, time; of a fork the parent and the child
EVENT = struct.Struct("=IIQ IIII")
FORKED, ENDED = 0x1, 0x80000000
BUFFER = 64 << 20  # bytes of events that nobody has read yet
COLLECTING = "collecting"
DEAR = Path(__file__).with_name("dear.txt")
MOST_CPU_S, MOST_A_TEST_S = 2.5, 0.06  # limits of a module that is not dear
MOST_PROCESSES = 0.4  # a test, for each is waited for
REAL_QUEUES = ("tests/e2e/test_folders.py",)  # dear, and yet quick


class Cost(NamedTuple):
    """Resources used up to a time, or between two times."""

    cpu_s: float
    processes: int
    wall_s: float

    def since(self, before: "Cost") -> "Cost":
        """Return what was used since then."""
        return Cost(
            self.cpu_s - before.cpu_s,
            self.processes - before.processes,
            self.wall_s - before.wall_s,
        )


class Meter:
    """Measures this process and its descendants, daemons included."""

    def __init__(self) -> None:
        self._group = _own_group()
        self._events = _process_events()
        self._known, self._started = {os.getpid()}, 0

    def read(self) -> Cost:
        """Return what was used since a moment in the past."""
        self._count()
        return Cost(self._cpu_s(), self._started, time.monotonic())

    def close(self) -> None:
        """Leave the control group and delete it."""
        if self._group:
            with contextlib.suppress(
                OSError
            ):  # processes that a test has left running are still in it
                (self._group.parent / "cgroup.procs").write_text(str(os.getpid()))
                self._group.rmdir()

    def _cpu_s(self) -> float:
        if self._group is None:
            return sum(os.times()[:4])
        with contextlib.suppress(FileNotFoundError):
            return int((self._group / "cpuacct.usage").read_text()) / 1e9
        first = (self._group / "cpu.stat").read_text().splitlines()[0]  # usage_usec
        return int(first.split()[1]) / 1e6

    def _count(self) -> None:
        while self._events:
            try:
                message = self._events.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:  # more than the buffer holds
                continue
            what, _, _, first, _, child, process = EVENT.unpack_from(message, HEAD.size)
            if what == FORKED and child == process:  # no thread
                parent = EVENT.unpack_from(message, HEAD.size)[4]
                if parent in self._known:
                    self._known.add(child)
                    self._started += 1
            elif what == ENDED and first != os.getpid():
                self._known.discard(first)


def _own_group() -> Path | None:
    """Move this process into a control group of its own, and return it."""
    accounts = GROUPS / "cpuacct"
    group = (accounts if accounts.exists() else GROUPS) / f"costs-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        return None
    return group


def _process_events() -> socket.socket | None:
    """Subscribe to the kernel's events about processes."""
    body = struct.pack("=I", 1)  # PROC_CN_MCAST_LISTEN
    head = HEAD.pack(HEAD.size + len(body), 3, 0, 0, 0, OF_PROCESSES, 1, 0, 0, len(body), 0)
    try:
        events = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_CONNECTOR)
        events.setsockopt(socket.SOL_SOCKET, 33, BUFFER)  # SO_RCVBUFFORCE
        events.bind((0, OF_PROCESSES))
        events.send(head + body)
    except OSError:
        return None
    events.setblocking(False)
    return events


class Costs:
    """The plugin: writes what each test used."""

    def __init__(self, file: Path) -> None:
        self._file, self._meter = file, Meter()
        self._before = Cost(0.0, 0, time.monotonic())  # to start Python is a part of collecting

    def pytest_collection_finish(self) -> None:
        """Put down what it took to collect."""
        self._put(COLLECTING)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Put down what a test and its fixtures use."""
        self._before = self._meter.read()
        yield
        self._put(item.nodeid)

    def pytest_unconfigure(self) -> None:
        """Clean up."""
        self._meter.close()

    def _put(self, name: str) -> None:
        used = self._meter.read().since(self._before)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, *used]) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    """Measure, but not in the process that only distributes tests to others."""
    if not config.getoption("numprocesses", None):
        FILE.parent.mkdir(exist_ok=True)
        config.pluginmanager.register(Costs(FILE))


def main() -> None:
    """Print a table by folder, by module or by test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--by", choices=("folder", "module", "test"), default="folder")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--write", action="store_true", help=f"write {DEAR.name}")
    words = parser.parse_args()
    lines = [line for file in words.files for line in file.read_text().splitlines()]
    sums: dict[str, list[Cost]] = defaultdict(list)
    for name, *used in map(json.loads, lines):
        sums[_row(name, "module" if words.write else words.by)].append(Cost(*used))
    if words.write:
        DEAR.write_text("".join(f"{name}\n" for name in _dear(sums)), encoding="utf-8")
        return
    every = [cost for costs in sums.values() for cost in costs]
    by_cpu = sorted(sums.items(), key=lambda row: -sum(cost.cpu_s for cost in row[1]))
    shown = [*by_cpu[: words.rows], ("all", every)]
    head = "| | tests | CPU s | processes | waited s |\n|---|---|---|---|---|"
    sys.stdout.write("\n".join([head, *(_line(*row) for row in shown), ""]))


def _dear(modules: Mapping[str, Sequence[Cost]]) -> list[str]:
    """Return the slow modules, the slowest first. Those that mostly wait are spread among those that compute."""
    places: dict[str, float] = {}
    passed = {True: 0.0, False: 0.0}
    sums = {name: _sum(costs) for name, costs in modules.items()}
    waits = {name: cost.wall_s > 2 * cost.cpu_s for name, cost in sums.items()}
    for name, (cpu_s, processes, wall_s) in sorted(sums.items(), key=lambda row: -row[1].cpu_s):
        tests = len(modules[name])
        most_s = min(MOST_CPU_S, MOST_A_TEST_S * tests)
        is_dear = cpu_s > most_s or processes > MOST_PROCESSES * tests
        if is_dear and name not in {COLLECTING, *REAL_QUEUES}:
            places[name] = passed[waits[name]]
            passed[waits[name]] += wall_s
    return sorted(places, key=lambda name: places[name] / passed[waits[name]])


def _sum(costs: Sequence[Cost]) -> Cost:
    return Cost(*map(sum, zip(*costs, strict=True)))


def _row(name: str, by: str) -> str:
    if by == "test" or name == COLLECTING:
        return name
    module = name.split("::", 1)[0]
    return module if by == "module" else "/".join(module.split("/")[:-1][:3])


def _line(name: str, costs: Sequence[Cost]) -> str:
    waited = sum(max(0.0, cost.wall_s - cost.cpu_s) for cost in costs)
    cpu, processes = sum(cost.cpu_s for cost in costs), sum(cost.processes for cost in costs)
    return f"| {name} | {len(costs):,} | {cpu:,.1f} | {processes:,} | {waited:,.0f} |"


if __name__ == "__main__":
    main()
