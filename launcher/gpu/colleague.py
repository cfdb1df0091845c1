"""Who else waits on this machine, for what, and what each user has used lately: what decides who yields.

Use is counted in seconds of a card, of a core and of a byte of main memory, and decays: what was used HALF_LIFE_S
ago counts half. What others tell of themselves is untrusted: a number that cannot be does not count. What is in use
shows in the driver's answer, too, so of our reservations others count what is left of them.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite, log
from typing import Literal, NamedTuple, get_args

from launcher.system.files import Json

HALF_LIFE_S = 86_400.0
OWN_HOME = "another home of "  # how another home of our user is called, with his name
_LARGEST = float(1 << 80)  # of a use: a machine's memory over a year
_MOST_CARDS = 256  # that a wish names, and asks for

Lacking = Literal["gpu", "cores", "memory"]
_LACKING: tuple[Lacking, ...] = get_args(Lacking)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What somebody has used until now, decayed; or what he uses per second."""

    cards: float = 0.0  # card-seconds
    cores: float = 0.0  # core-seconds
    memory: float = 0.0  # byte-seconds of main memory

    def __add__(self, other: "Use") -> "Use":
        return Use(
            cards=self.cards + other.cards,
            cores=self.cores + other.cores,
            memory=self.memory + other.memory,
        )

    def times(self, factor: float) -> "Use":
        """Return a multiple."""
        return Use(
            cards=self.cards * factor, cores=self.cores * factor, memory=self.memory * factor
        )

    def after(self, span_s: float) -> "Use":
        """Return what is left of it when nothing is used for a while."""
        return self.times(_left_after(span_s))

    def grown(self, rate: "Use", span_s: float) -> "Use":
        """Return what it is after a while in which so much per second was used."""
        return self.after(span_s) + rate.times(decayed_span(span_s, 0.0))

    @property
    def is_notable(self) -> bool:
        """Whether it is worth a file when its user's scheduler leaves."""
        return self.cards >= 60 or self.cores >= 3600 or self.memory >= 3600 * (1 << 30)

    def record(self) -> dict[str, Json]:
        """Return it as others read it."""
        return {"cards": self.cards, "cores": self.cores, "memory": self.memory}


def decayed_span(began_ago_s: float, ended_ago_s: float) -> float:
    """Return how many seconds the time between two moments of the past counts for today."""
    span = _left_after(ended_ago_s) - _left_after(began_ago_s)
    return max(0.0, span) * HALF_LIFE_S / log(2)


def _left_after(span_s: float) -> float:
    return exp(-log(2) * max(0.0, span_s) / HALF_LIFE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the first waiting job of a scheduler asks for, as its file tells."""

    since: float  # on the clock that all processes of the machine share
    gpus: int = 0
    vram: int | None = None  # bytes on each of them; None: unknown
    cpus: int = 1
    ram: int = 0
    exclusive: bool = False
    lacks: Lacking = "gpu"  # of which there is too little for it
    cards: tuple[str, ...] = ()  # UUIDs of GPUs that it may have; empty: any
    count: int = 1  # how many jobs that ask for the same wait

    def record(self) -> dict[str, Json]:
        """Return it as others read it."""
        return {
            "since": self.since,
            "gpus": self.gpus,
            "vram": self.vram,
            "cpus": self.cpus,
            "ram": self.ram,
            "exclusive": self.exclusive,
            "lacks": self.lacks,
            "cards": [*self.cards[:_MOST_CARDS]],
            "count": self.count,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Colleague:
    """A scheduler of somebody else, or of another home of ours, that waits for what we may take."""

    user: str
    since: float  # s: how long it waits already
    usage: float  # decayed, in card-seconds, of the whole user
    gpus: int  # what its first job asks for
    vram: int | None = None
    cpus: int = 1
    ram: int = 0
    exclusive: bool = False
    core_usage: float = 0.0  # decayed, in core-seconds, likewise
    ram_usage: float = 0.0  # decayed, in byte-seconds, likewise
    lacks: Lacking = "gpu"
    cards: tuple[str, ...] = ()
    count: int = 1  # how many jobs that ask for the same wait

    def used(self) -> float:
        """Return what its user has used of what it lacks."""
        return {"gpu": self.usage, "cores": self.core_usage, "memory": self.ram_usage}[self.lacks]


def read_use(record: object) -> Use | None:
    """Return a use that a file tells; None: it cannot be one."""
    if not isinstance(record, dict):
        return None
    amounts = {name: _amount(record.get(name, 0)) for name in ("cards", "cores", "memory")}
    known = {name: amount for name, amount in amounts.items() if amount is not None}
    return Use(**known) if len(known) == len(amounts) else None


def read_wish(record: object) -> Wish | None:
    """Return a wish that a file tells; None: it cannot be one."""
    if not isinstance(record, dict):
        return None
    since = _amount(record.get("since"))
    vram = record.get("vram")
    sizes = [_whole(record, name) for name in ("gpus", "cpus", "ram")]
    cards = record.get("cards", [])
    lacks = next((word for word in _LACKING if word == record.get("lacks")), None)
    if since is None or None in sizes or lacks is None:
        return None
    if not isinstance(cards, list) or len(cards) > _MOST_CARDS:
        return None
    if vram is not None and _whole(record, "vram") is None:
        return None
    gpus, cpus, ram = (size or 0 for size in sizes)
    if gpus > _MOST_CARDS:
        return None
    return Wish(
        since=since,
        gpus=gpus,
        vram=None if vram is None else _whole(record, "vram"),
        cpus=cpus,
        ram=ram,
        exclusive=record.get("exclusive") is True,
        lacks=lacks,
        cards=tuple(name for name in cards if isinstance(name, str)),
        count=max(1, min(_MOST_CARDS, _whole(record, "count") or 1)),
    )


def _amount(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int) and value > _LARGEST:
        return None
    return float(value) if isfinite(value) and 0 <= value <= _LARGEST else None


def _whole(record: Mapping[object, object], name: str) -> int | None:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= 1 << 62 else None


LAG_S = 5.0  # more than the age of any measurement that a decision rests on
NOTABLE = 256 << 20  # bytes: that so much more or less of a GPU is in use is told at once


class Reservation(NamedTuple):
    """What we reserved for a job of one resource; a job has at most one of each."""

    device: str  # the resource: a GPU's UUID for its memory, and see `resources`
    amount: int  # bytes, or how many
    used: int | None  # of it that is seen to be in use; None: unknown, and all of it counts
    job: int


class Published(NamedTuple):
    """What we last published of a reservation, and what was measured lately."""

    amount: int
    uses: tuple[
        tuple[float, int], ...
    ]  # time, bytes; what was measured again and was equal is left out

    def least(self, since: float) -> int:
        """Return the least that was in use from a time on, as far as it was measured."""
        first = max((i for i, (at, _) in enumerate(self.uses) if at <= since), default=0)
        return min(used for _, used in self.uses[first:])


class Counted(NamedTuple):
    """What a file tells of reservations."""

    entries: Mapping[tuple[int, str], Published]  # by job and resource
    settled: Mapping[str, int]
    fresh: Mapping[str, int]
    measured: Mapping[str, tuple[tuple[float, int], ...]]  # see `Publication`


def counted(
    reservations: Sequence[Reservation],
    before: Mapping[tuple[int, str], Published],
    fresh: Collection[int],
    now: float,
) -> Counted:
    """Return what others must count now.

    Args:
        reservations: all that we reserve.
        before: what was published of them before.
        fresh: jobs that are about to start; what was published of them before is not fresh.
        now: the time.
    """
    entries: dict[tuple[int, str], Published] = {}
    settled, new = Counter[str](), Counter[str]()
    sure: dict[str, list[tuple[int, Published]]] = {}  # by resource: what counts, and its use
    for reservation in reservations:
        key, device = (reservation.job, reservation.device), reservation.device
        earlier = before.get(key)
        entry = Published(amount=reservation.amount, uses=_uses(reservation, earlier, now))
        announced = earlier.amount if earlier else 0
        amount = min(
            announced if reservation.job in fresh else reservation.amount, reservation.amount
        )
        least = entry.least(now - LAG_S)
        held = max(0, amount - least)
        settled[device] += held
        new[device] += max(0, reservation.amount - least) - held
        entries[key] = entry
        if reservation.used is not None:
            sure.setdefault(device, []).append((amount, entry))
        else:
            sure.setdefault(device, []).append((held, Published(amount=held, uses=((now, 0),))))
    measured = {
        device: steps
        for device, jobs in sure.items()
        if (steps := _steps(jobs, now - LAG_S)) and steps[-1][1] < settled[device]
    }
    return Counted(entries=entries, settled=settled, fresh=new, measured=measured)


def whole(reservations: Sequence[Reservation]) -> Counter[str]:
    """Return the sum of each resource, whatever of it is in use."""
    sums = Counter[str]()
    for reservation in reservations:
        sums[reservation.device] += reservation.amount
    return sums


def differ_notably(reservations: Sequence[Reservation], before: Sequence[Reservation]) -> bool:
    """Tell whether notably more or less of a GPU is in use of reservations than of those before."""
    now, then = _pending(reservations), _pending(before)
    return any(abs(now[key] - then[key]) >= NOTABLE for key in now.keys() & then.keys())


def _pending(reservations: Sequence[Reservation]) -> Counter[str]:
    """Return what of each GPU's memory is reserved and not in use, where that is measured."""
    pending = Counter[str]()
    for reservation in reservations:
        if reservation.used is not None:
            pending[reservation.device] += max(0, reservation.amount - reservation.used)
    return pending


def _steps(jobs: Sequence[tuple[int, Published]], after: float) -> tuple[tuple[float, int], ...]:
    """Return when something was measured, and what counts for who has looked since."""
    times = sorted({at for _, entry in jobs for at, _ in entry.uses if at > after})
    steps: list[tuple[float, int]] = []
    for at in times:
        held = sum(max(0, amount - entry.least(at)) for amount, entry in jobs)
        if not steps or steps[-1][1] != held:
            steps.append((at, held))
    return tuple(steps)


def _uses(
    reservation: Reservation, before: Published | None, now: float
) -> tuple[tuple[float, int], ...]:
    """Return what of a reservation was in use during the last LAG_S; nothing, as long as it is new."""
    uses = before.uses if before else ((now, 0),)
    used = max(0, reservation.used or 0)
    if used != uses[-1][1]:
        uses = (*uses, (now, used))
    # what was measured longer ago counts until something else was measured, LAG_S ago
    first = max((i for i, (at, _) in enumerate(uses) if at <= now - LAG_S), default=0)
    return uses[first:]
