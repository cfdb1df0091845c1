"""What a check of the machine looks at, and what it finds (a verdict, a summary, what to do), as values.

Who gathers the facts is `launcher.cli.doctor.gather`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from textwrap import wrap
from typing import NamedTuple

from launcher.gpu.snapshot import GpuSnapshot
from launcher.screens.format import harmless
from launcher.screens.text_table import Line, Span, Tone
from launcher.system.files import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """NVIDIA's driver, and the GPUs that it tells of."""

    absent: str = ""  # why there is none to ask
    loaded: bool = False  # the kernel has it
    cards: int = 0  # of NVIDIA's that are plugged in, as the kernel says
    silent: str = ""  # why it did not answer
    version: str | None = None
    cuda: tuple[int, int] | None = None  # the newest CUDA that it can run
    gpus: tuple[GpuSnapshot, ...] = ()
    modes: Mapping[int, int] = field(default_factory=dict)  # index → NVML's compute mode


class Torch(NamedTuple):
    """The torch that jobs of this Python import."""

    version: str | None = None  # None: none is installed
    cuda: str | None = None  # for which it was built
    other: str = ""  # another make of GPUs for which it was built
    tried: str = ""  # the outcome of a computation on a GPU; empty: not tried
    works: bool | None = None  # whether it did


class Disk(NamedTuple):
    """Where files lie, or will lie."""

    path: str
    kind: str | None = None  # type of the file system
    total: int | None = None  # bytes; None: unknown
    free: int | None = None  # bytes that we may fill
    files: int | None = None  # that can still be made; None: as many as fit
    writable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The queue, as far as it can be seen without changing it."""

    home: str = ""
    problem: str = ""  # why it cannot be found or used
    exists: bool = False
    network: str = ""  # the warning about a home on a network file system
    schema: int | None = None  # of the database; None: not read
    known_schema: int = 0  # the newest that this program knows
    newest: float | None = None  # when something last happened
    waiting: int = 0  # jobs that are queued or run
    unexplained: tuple[str, ...] = ()  # of jobs that wait without a cause, what is known of it
    damaged: bool = False  # it is on record
    looks_damaged: bool = False
    stopped: bool = False
    scheduler: int | None = None  # its pid
    version: str | None = None  # of the scheduler
    restarts: int = 0  # lately, because it had died


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """The processor as this process may use it."""

    machine: int
    allowed: int  # by our affinity
    usable: int  # and by our cgroup's share of time
    threads: Mapping[str, str] = field(default_factory=dict)  # variables that limit libraries


class Limits(NamedTuple):
    """Limits of this shell, as jobs inherit them; None: there is none."""

    open_files: int | None = None
    open_files_most: int | None = None  # to which it can be raised
    processes: int | None = None
    processes_most: int | None = None


class Logout(NamedTuple):
    """What becomes of our processes when their owner logs out."""

    systemd: bool = False
    kills: bool | None = None  # whether it ends them; None: unknown
    lingers: bool = False  # the owner is excepted
    service: bool = False  # the scheduler is a service of the owner's


class Groups(NamedTuple):
    """Whether each supervisor can have a control group of its own."""

    hindrance: str = ""  # why it cannot
    service: bool = False  # where a systemd could give one to the scheduler as its service


class Engine(NamedTuple):
    """A backend of config.toml, as far as this host can tell."""

    name: str
    kind: str
    missing: tuple[str, ...] = ()  # its programs that are not in PATH
    answers: bool = True  # False: it was asked, and printed nothing that helps
    complaint: str = ""  # what it said then
    partition: str = ""  # which the configuration names
    partitions: tuple[str, ...] = ()  # that there are
    python: str = ""  # the interpreter on the nodes, where this host sees it, too
    ray: str = ""  # version of the Ray that it can import
    folder: str = ""  # of its pilots
    file_system: str | None = None  # on which that lies
    shared: bool = False  # whether other machines can see it
    failures: int = 0  # pilots in a row that could not work
    reason: str = ""  # what the scheduler says of it

    @property
    def table(self) -> str:
        """Its table in config.toml."""
        return f"[backends.{self.name}]"


class NotifyTarget(NamedTuple):
    """A target of [notify] in config.toml."""

    name: str
    problem: str = ""  # why it cannot be used
    exposed: bool = False  # its address stands in a file that others may read


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of it, at one moment."""

    now: float
    launcher: str  # our version
    python: str
    sqlite: tuple[int, int, int]
    oldest_sqlite: tuple[int, int, int]
    user: str
    driver: Driver = field(default_factory=Driver)
    torch: Torch = field(default_factory=Torch)
    visible: str | None = None  # CUDA_VISIBLE_DEVICES of this shell
    order: str | None = None  # CUDA_DEVICE_ORDER likewise
    configuration: str = ""  # where the user's file is; empty: there is none
    faults: str = ""  # what is wrong with it
    queue: Queue = field(default_factory=Queue)
    home: Disk | None = None
    results: Disk | None = None
    shared: Disk | None = None  # memory that processes share
    engines: tuple[Engine, ...] = ()  # backends of the user's file
    targets: tuple[NotifyTarget, ...] = ()  # of messages
    unsent: tuple[str, ...] = ()  # messages that were given up, and why
    claims: str = ""  # where schedulers tell each other what they promised
    claims_trouble: str = ""
    cores: Cores | None = None
    limits: Limits | None = None
    logout: Logout = field(default_factory=Logout)
    groups: Groups | None = None
    terminal: str = ""  # TERM
    unicode: bool = True  # the terminal knows more than ASCII


class Verdict(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    TROUBLE = "trouble"
    UNKNOWN = "unknown"


LOOKS = {
    Verdict.OK: ("✓", Tone.GOOD),
    Verdict.WARNING: ("▲", Tone.WARN),
    Verdict.TROUBLE: ("✗", Tone.BAD),
    Verdict.UNKNOWN: ("·", Tone.DIM),
}
_GAP = "  "
_LEAST = 20  # columns for the summary, however narrow the screen


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check."""

    name: str
    verdict: Verdict
    summary: str
    advice: str = ""  # what to do; empty: nothing

    def columns(self) -> tuple[str, ...]:
        """Return the finding as a line for pipes."""
        return (self.name, self.verdict, harmless(self.summary), harmless(self.advice) or "-")

    def record(self) -> dict[str, Json]:
        """Return the finding for JSON."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "told": self.summary,
            "advice": self.advice or None,
        }


def ok(name: str, summary: str, advice: str = "") -> Finding:
    """Return that a thing is in order."""
    return Finding(name=name, verdict=Verdict.OK, summary=summary, advice=advice)


def warning(name: str, summary: str, advice: str) -> Finding:
    """Return that a thing may cause trouble."""
    return Finding(name=name, verdict=Verdict.WARNING, summary=summary, advice=advice)


def trouble(name: str, summary: str, advice: str) -> Finding:
    """Return that jobs cannot run well until this is repaired."""
    return Finding(name=name, verdict=Verdict.TROUBLE, summary=summary, advice=advice)


def unknown(name: str, summary: str, advice: str = "") -> Finding:
    """Return that a thing cannot be determined, or does not matter here."""
    return Finding(name=name, verdict=Verdict.UNKNOWN, summary=summary, advice=advice)


def draw(findings: Sequence[Finding], width: int) -> list[Line]:
    """Return lines for each finding and its advice, and last the number of findings by verdict."""
    names = max((len(finding.name) for finding in findings), default=0)
    words = max(len(verdict.value) for verdict in Verdict)
    before = 2 + words + len(_GAP) + names + len(_GAP)
    room = max(_LEAST, width - before)
    lines = []
    for finding in findings:
        glyph, tone = LOOKS[finding.verdict]
        first, *rest = wrap(harmless(finding.summary), room, break_on_hyphens=False) or [""]
        head = (
            Span(f"{glyph} {finding.verdict:<{words}}", tone),
            Span(f"{_GAP}{finding.name:<{names}}{_GAP}", Tone.STRONG),
            Span(first),
        )
        lines.append(Line(head))
        lines += [Line((Span(" " * before), Span(text))) for text in rest]
        advice = wrap(harmless(finding.advice), max(_LEAST, room - 2), break_on_hyphens=False)
        for number, text in enumerate(advice):
            mark = "  " if number else "→ "
            lines.append(Line((Span(" " * before), Span(f"{mark}{text}", tone))))
    lines += [Line(()), Line((Span(tally(findings), Tone.STRONG),))]
    return [row.cut(width) for row in lines]


def tally(findings: Iterable[Finding]) -> str:
    """Return the number of findings by verdict, in words."""
    counts = Counter(finding.verdict for finding in findings)
    plural = {Verdict.WARNING: "s", Verdict.TROUBLE: "s"}
    parts = [
        f"{counts[verdict]} {verdict}{plural.get(verdict, '') if counts[verdict] > 1 else ''}"
        for verdict in Verdict
        if counts[verdict]
    ]
    return " · ".join(parts)
