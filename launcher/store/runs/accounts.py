"""What a run may have of the machine beside others, and what it had lately; values without a database."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp2, inf, isfinite, log

HALF_LIFE_S = 6 * 3600.0  # after so long use counts half: a new run is not behind one of last week
CORES_OF_A_CARD = 16  # use of a core counts as a sixteenth of a GPU's
LEAST_SHARE, MOST_SHARE = 0.001, 1000.0
_LONGEST_S = HALF_LIFE_S / log(2)  # what use that never ends amounts to


def lately(seconds: float) -> float:
    """Return how many seconds count of a use that began so long ago and lasts, as old ones fade."""
    return _LONGEST_S * (1.0 - exp2(-max(0.0, seconds) / HALF_LIFE_S))


def cards_of(devices: Sequence[str] | int, cpus: int) -> float:
    """Return how many cards a job takes: its GPUs, or what its cores count."""
    gpus = devices if isinstance(devices, int) else len(devices)
    return max(float(gpus), cpus / CORES_OF_A_CARD)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAccount:
    """A run's share, and its use: fades with time, and is kept as of its last change."""

    run: int = 0
    name: str = ""
    share: float = 1.0
    used: float = 0.0  # card-seconds of ended attempts, as of `at`
    at: float = 0.0  # seconds since 1970

    def used_by(self, now: float) -> float:
        """Return what of the use of ended attempts counts now, in card-seconds."""
        return self.used * exp2(-max(0.0, now - self.at) / HALF_LIFE_S)

    def charged(self, cards: float, seconds: float, now: float) -> "RunAccount":
        """Return the account after an attempt that ended now."""
        used = self.used_by(now) + cards * lately(seconds)
        return replace(self, used=used, at=now)


NO_ACCOUNT = RunAccount()


def account(run: int, name: str, share: object, used: object, at: object) -> RunAccount:
    """Return an account as it is stored; what makes no sense in it counts as if nothing were stored."""
    return RunAccount(
        run=run,
        name=name,
        share=_within(share, LEAST_SHARE, MOST_SHARE, 1.0),
        used=_within(used, 0.0, inf, 0.0),
        at=_within(at, 0.0, inf, 0.0),
    )


def _within(value: object, least: float, most: float, usual: float) -> float:
    sound = isinstance(value, int | float) and isfinite(value) and least <= value <= most
    return float(value) if sound and isinstance(value, int | float) else usual
