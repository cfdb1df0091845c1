"""Accounts: the past resource usage of users, queues and runs, its decay, and the demand of waiting jobs.

Usage is counted in GPU-seconds, core-seconds and byte-seconds of main memory. It decays: usage HALF_LIFE_S ago counts
half. A user's account is the sum over the user's queues, a queue's account the sum over its attempts. Users are
compared by the resource that the waiting user lacks. A run's account is in GPU equivalents, divided by its share.

Records of other users are untrusted: an impossible number does not count.
"""

from collections.abc import Sequence
from math import exp2, inf, log
from typing import Any, Literal, NamedTuple, TypeGuard, get_args

HALF_LIFE_S = 86_400.0
CORES_PER_GPU = 16  # use of a core counts as a sixteenth of a GPU's
OWN_QUEUE_PREFIX = (
    "another queue of user "  # names another queue of the same user; the user name follows
)
_LARGEST_AMOUNT = float(1 << 80)  # largest recorded usage: the memory of a machine over a year
_LARGEST_COUNT = 1 << 62
_MOST_GPUS = 256  # GPUs that a demand may name and request

ResourceKind = Literal["gpu", "cores", "memory"]


def decay_factor(span_s: float) -> float:
    """Return the fraction of a usage that still counts after some seconds; at most 1, also if the clock was set back."""
    return exp2(-max(0.0, span_s) / HALF_LIFE_S)


def decayed_seconds(began_ago_s: float, ended_ago_s: float) -> float:
    """Return the decayed length in seconds of the time between two past moments."""
    span = decay_factor(ended_ago_s) - decay_factor(began_ago_s)
    return max(0.0, span) * HALF_LIFE_S / log(2)


class ResourceUsage(NamedTuple):
    """The decayed usage of a user, or the usage per second."""

    cards: float = 0.0  # GPU-seconds
    cores: float = 0.0  # core-seconds
    memory: float = 0.0  # byte-seconds of main memory

    def __add__(self, other: "ResourceUsage") -> "ResourceUsage":  # type: ignore[override]  # amounts are no sequence
        return ResourceUsage(*map(sum, zip(self, other, strict=True)))

    def multiply(self, factor: float) -> "ResourceUsage":
        """Return the usage multiplied by a factor."""
        return ResourceUsage(*(amount * factor for amount in self))

    def decay(self, span_s: float) -> "ResourceUsage":
        """Return the decayed usage after some seconds without any usage."""
        return self.multiply(decay_factor(span_s))

    def accumulate(self, rate: "ResourceUsage", span_s: float) -> "ResourceUsage":
        """Return the usage after some seconds with a constant usage per second."""
        return self.decay(span_s) + rate.multiply(decayed_seconds(span_s, 0.0))

    def amount_of(self, resource: ResourceKind) -> float:
        """Return the amount of one resource."""
        return self[get_args(ResourceKind).index(resource)]

    @property
    def is_notable(self) -> bool:
        """Whether the usage is large enough to be stored when the user's scheduler ends."""
        return self.cards >= 60 or self.cores >= 3600 or self.memory >= 3600 * (1 << 30)


NO_RESOURCE_USAGE = ResourceUsage()


class ResourceDemand(NamedTuple):
    """The request of the first waiting job of a scheduler, as published in its file."""

    since: float  # on the monotonic clock that all processes of the machine share
    gpus: int = 0
    vram: int | None = None  # bytes on each of them; None: unknown
    cpus: int = 1
    ram: int = 0
    exclusive: bool = False
    lacks: ResourceKind = "gpu"  # the resource that is missing
    cards: tuple[str, ...] = ()  # UUIDs of the GPUs that the job may use; empty: any
    # number of waiting jobs with the same request
    count: int = 1  # type: ignore[assignment]  # the key in files; `tuple.count` is not needed

    def to_json(self) -> dict[str, Any]:
        """Return the demand as JSON for other schedulers."""
        return {**self._asdict(), "cards": [*self.cards[:_MOST_GPUS]]}


class PeerScheduler(NamedTuple):
    """A scheduler of another user, or of another queue of the same user, that waits for resources."""

    user: str
    waited_s: float
    demand: ResourceDemand
    usage: ResourceUsage = NO_RESOURCE_USAGE  # resources used by the whole user

    @property
    def lacking_resource(self) -> ResourceKind:
        """The resource that its demand lacks."""
        return self.demand.lacks

    @property
    def used_amount(self) -> float:
        """The usage of its user of the lacking resource."""
        return self.usage.amount_of(self.lacking_resource)


def read_resource_usage(record: object) -> ResourceUsage | None:
    """Return the usage of a record in a file, None if it is invalid."""
    if not isinstance(record, dict):
        return None
    amounts = [record.get(name, 0) for name in ResourceUsage._fields]
    return ResourceUsage(*map(float, amounts)) if all(map(_is_amount, amounts)) else None


def read_demand(record: object) -> ResourceDemand | None:
    """Return the demand of a record in a file, None if it is invalid."""
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
    """Return the number of GPUs that a job counts as: its GPUs, or its cores divided by CORES_PER_GPU."""
    gpus = devices if isinstance(devices, int) else len(devices)
    return max(float(gpus), cpus / CORES_PER_GPU)


class FairShareAccount(NamedTuple):
    """The share of a run and its past usage.

    Its virtual time is the usage of its ended attempts divided by its share. Among waiting runs, the run with the
    smallest virtual time starts first (Parekh and Gallager, "A generalized processor sharing approach to flow
    control", 1993).
    """

    run: int = 0
    name: str = ""
    share: float = 1.0
    vtime: float = 0.0  # GPU-seconds divided by the share
    used: float = 0.0  # decayed GPU-seconds of ended attempts as of `updated_at`
    updated_at: float = 0.0  # when an attempt ended last, seconds since 1970

    def decayed_usage(self, now: float) -> float:
        """Return the decayed usage of ended attempts at a moment, in GPU-seconds."""
        return self.used * decay_factor(now - self.updated_at)

    def charge_attempt(self, card_s: float, now: float) -> "FairShareAccount":
        """Return the account after an attempt that used some GPU-seconds and ended now."""
        vtime, used = self.vtime + card_s / self.share, self.decayed_usage(now) + card_s
        return self._replace(vtime=vtime, used=used, updated_at=now)


NO_ACCOUNT = FairShareAccount()


def read_account(
    run: int, name: str, share: object, vtime: object, used_time: object, timestamp: object
) -> FairShareAccount:
    """Return a stored account; invalid values are replaced by those of an empty account."""
    return FairShareAccount(
        run,
        name,
        _positive_or_zero(share) or 1.0,
        *map(_positive_or_zero, (vtime, used_time, timestamp)),
    )


def _positive_or_zero(value: object) -> float:
    """Return a number if it is above 0, otherwise 0."""
    return float(value) if isinstance(value, int | float) and 0 < value < inf else 0.0
