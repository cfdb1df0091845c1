"""What a run may have of the machine beside others, and what it had lately; values without a database."""

from collections.abc import Sequence
from math import exp2, inf
from typing import NamedTuple

HALF_LIFE_S = 86_400.0  # what is shown as used lately counts half after so long
CORES_OF_A_CARD = 16  # use of a core counts as a sixteenth of a GPU's


def cards_of(devices: Sequence[str] | int, cpus: int) -> float:
    """Return how many cards a job takes: its GPUs, or what its cores count."""
    gpus = devices if isinstance(devices, int) else len(devices)
    return max(float(gpus), cpus / CORES_OF_A_CARD)


class RunAccount(NamedTuple):
    """A run's share, and what it had of the machine.

    Its virtual time is what its ended attempts had, for a share of 1: between runs that wait the smallest goes
    first. (Parekh and Gallager, "A generalized processor sharing approach to flow control", 1993.)
    """

    run: int = 0
    name: str = ""
    share: float = 1.0
    vtime: float = 0.0  # card-seconds for a share of 1
    used: float = 0.0  # card-seconds of ended attempts as of `at`, which fade: for people
    at: float = 0.0  # when an attempt ended last, seconds since 1970

    def used_by(self, now: float) -> float:
        """Return what of the use of ended attempts counts now, in card-seconds."""
        return self.used * exp2(-max(0.0, now - self.at) / HALF_LIFE_S)

    def at_vtime(self, vtime: float) -> "RunAccount":
        """Return the account with another virtual time."""
        return self._replace(vtime=vtime)

    def charged(self, card_s: float, now: float) -> "RunAccount":
        """Return the account after an attempt that had so many card-seconds and ended now."""
        return RunAccount(
            run=self.run,
            name=self.name,
            share=self.share,
            vtime=self.vtime + card_s / self.share,
            used=self.used_by(now) + card_s,
            at=now,
        )


NO_ACCOUNT = RunAccount()


def account(
    run: int, name: str, share: object, vtime: object, used: object, at: object
) -> RunAccount:
    """Return an account as it is stored; what makes no sense in it counts as if nothing were stored."""
    return RunAccount(
        run=run,
        name=name,
        share=_sound(share) or 1.0,
        vtime=_sound(vtime),
        used=_sound(used),
        at=_sound(at),
    )


def _sound(value: object) -> float:
    """Return a number that is above 0, else 0."""
    sound = isinstance(value, int | float) and 0 < value < inf
    return float(value) if sound and isinstance(value, int | float) else 0.0
