"""Accounts: what users, their homes and their runs had of a machine, what of that still counts, and what they wait for.

Use is counted in seconds of a card, of a core and of a byte of main memory, and decays: what was used HALF_LIFE_S
ago counts half. A user's account is the sum of his homes', a home's that of its attempts; users are compared by what
the one who waits lacks. A run's account is in cards, weighed by its share.

What others tell of themselves is untrusted: a number that cannot be does not count.
"""

from collections.abc import Sequence
from math import exp2, inf, log
from typing import Any, Literal, NamedTuple, TypeGuard, get_args

HALF_LIFE_S = 86_400.0
CORES_PER_GPU = 16  # use of a core counts as a sixteenth of a GPU's
OWN_QUEUE_PREFIX = "another queue of user "  # how another home of our user is called, with his name
_LARGEST_AMOUNT = float(1 << 80)  # of a use: a machine's memory over a year
_LARGEST_COUNT = 1 << 62
_MOST_GPUS = 256  # that a wish names, and asks for

ResourceKind = Literal["gpu", "cores", "memory"]


def decay_factor(span_s: float) -> float:
    """Return which part of a use still counts after a while; time that runs backwards makes none grow."""
    return exp2(-max(0.0, span_s) / HALF_LIFE_S)


def decayed_seconds(began_ago_s: float, ended_ago_s: float) -> float:
    """Return how many seconds the time between two moments of the past counts for today."""
    span = decay_factor(ended_ago_s) - decay_factor(began_ago_s)
    return max(0.0, span) * HALF_LIFE_S / log(2)


class ResourceUsage(NamedTuple):
    """What somebody has used until now, decayed; or what he uses per second."""

    cards: float = 0.0  # card-seconds
    cores: float = 0.0  # core-seconds
    memory: float = 0.0  # byte-seconds of main memory

    def __add__(self, other: "ResourceUsage") -> "ResourceUsage":  # type: ignore[override]  # amounts are no sequence
        return ResourceUsage(*map(sum, zip(self, other, strict=True)))

    def multiply(self, factor: float) -> "ResourceUsage":
        """Return a multiple."""
        return ResourceUsage(*(amount * factor for amount in self))

    def decay(self, span_s: float) -> "ResourceUsage":
        """Return what is left of it when nothing is used for a while."""
        return self.multiply(decay_factor(span_s))

    def accumulate(self, rate: "ResourceUsage", span_s: float) -> "ResourceUsage":
        """Return what it is after a while in which so much per second was used."""
        return self.decay(span_s) + rate.multiply(decayed_seconds(span_s, 0.0))

    def amount_of(self, resource: ResourceKind) -> float:
        """Return the amount of one of the three."""
        return self[get_args(ResourceKind).index(resource)]

    @property
    def is_notable(self) -> bool:
        """Whether it is worth a file when its user's scheduler leaves."""
        return self.cards >= 60 or self.cores >= 3600 or self.memory >= 3600 * (1 << 30)


NO_RESOURCE_USAGE = ResourceUsage()


class ResourceDemand(NamedTuple):
    """What the first waiting job of a scheduler asks for, as its file tells."""

    since: float  # on the clock that all processes of the machine share
    gpus: int = 0
    vram: int | None = None  # bytes on each of them; None: unknown
    cpus: int = 1
    ram: int = 0
    exclusive: bool = False
    lacks: ResourceKind = "gpu"  # of which there is too little for it
    cards: tuple[str, ...] = ()  # UUIDs of GPUs that it may have; empty: any
    # how many jobs that ask for the same wait
    count: int = 1  # type: ignore[assignment]  # as files name it; a tuple's own is not needed

    def record(self) -> dict[str, Any]:
        """Return it as others read it."""
        return {**self._asdict(), "cards": [*self.cards[:_MOST_GPUS]]}


class PeerScheduler(NamedTuple):
    """A scheduler of somebody else, or of another home of ours, that waits for what we may take."""

    user: str
    waited_s: float
    demand: ResourceDemand
    usage: ResourceUsage = NO_RESOURCE_USAGE  # of the whole user

    @property
    def lacking_resource(self) -> ResourceKind:
        """What there is too little of for it."""
        return self.demand.lacks

    @property
    def used_amount(self) -> float:
        """What its user has used of that."""
        return self.usage.amount_of(self.lacking_resource)


def read_resource_usage(record: object) -> ResourceUsage | None:
    """Return a use that a file tells; None: it cannot be one."""
    if not isinstance(record, dict):
        return None
    amounts = [record.get(name, 0) for name in ResourceUsage._fields]
    return ResourceUsage(*map(float, amounts)) if all(map(_is_amount, amounts)) else None


def read_demand(record: object) -> ResourceDemand | None:
    """Return a wish that a file tells; None: it cannot be one."""
    if not isinstance(record, dict):
        return None
    values: dict[str, Any] = {**dict.fromkeys(ResourceDemand._fields), "cards": [], **record}
    cards, count = values["cards"], values["count"]
    sizes = [values[name] for name in ("gpus", "cpus", "ram", "vram")]
    if sizes[-1] is None:
        sizes.pop()
    is_known = values["lacks"] in get_args(ResourceKind)
    if not is_known or not _is_amount(values["since"]) or not all(map(_is_count, sizes)):
        return None
    if not isinstance(cards, list) or max(len(cards), values["gpus"]) > _MOST_GPUS:
        return None
    return ResourceDemand(**{name: values[name] for name in ResourceDemand._fields})._replace(
        since=float(values["since"]),
        exclusive=values["exclusive"] is True,
        cards=tuple(name for name in cards if isinstance(name, str)),
        count=max(1, min(_MOST_GPUS, count)) if _is_count(count) else 1,
    )


def _is_amount(value: object) -> TypeGuard[float]:
    return type(value) in {int, float} and 0 <= value <= _LARGEST_AMOUNT  # type: ignore[operator]  # a number


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _LARGEST_COUNT


def gpu_equivalents(devices: Sequence[str] | int, cpus: int) -> float:
    """Return how many cards a job takes: its GPUs, or what its cores count."""
    gpus = devices if isinstance(devices, int) else len(devices)
    return max(float(gpus), cpus / CORES_PER_GPU)


class FairShareAccount(NamedTuple):
    """A run's share, and what it had of the machine.

    Its virtual time is what its ended attempts had, for a share of 1: between runs that wait the smallest goes
    first. (Parekh and Gallager, "A generalized processor sharing approach to flow control", 1993.)
    """

    run: int = 0
    name: str = ""
    share: float = 1.0
    vtime: float = 0.0  # card-seconds for a share of 1
    used: float = 0.0  # card-seconds of ended attempts as of `updated_at`, which decay
    updated_at: float = 0.0  # when an attempt ended last, seconds since 1970

    def decayed_usage(self, now: float) -> float:
        """Return what of the use of ended attempts counts now, in card-seconds."""
        return self.used * decay_factor(now - self.updated_at)

    def charge_attempt(self, card_s: float, now: float) -> "FairShareAccount":
        """Return the account after an attempt that had so many card-seconds and ended now."""
        vtime, used = self.vtime + card_s / self.share, self.decayed_usage(now) + card_s
        return self._replace(vtime=vtime, used=used, updated_at=now)


NO_ACCOUNT = FairShareAccount()


def read_account(
    run: int, name: str, share: object, vtime: object, used: object, at: object
) -> FairShareAccount:
    """Return an account as it is stored; what makes no sense in it counts as if nothing were stored."""
    return FairShareAccount(
        run, name, _positive_or_zero(share) or 1.0, *map(_positive_or_zero, (vtime, used, at))
    )


def _positive_or_zero(value: object) -> float:
    """Return a number that is above 0, else 0."""
    return float(value) if isinstance(value, int | float) and 0 < value < inf else 0.0
