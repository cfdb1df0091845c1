"""Why a job starts where it does, and why a machine can never hold one: in words and numbers."""

from collections.abc import Sequence
from typing import NamedTuple

from launcher.accounts import Lacking
from launcher.scheduler.policy.gpu_slot import Card, Pool
from launcher.scheduler.policy.model import Machine, Need, Running, Waiting
from launcher.states import ReasonCode
from launcher.system.files import Json
from launcher.units import format_bytes


class Refusal(NamedTuple):
    """Why a machine can never hold a job, even if it were unused."""

    text: str
    obstacle: str  # the same, without what the job needs where that stands apart
    code: ReasonCode = ReasonCode.NEVER_FITS


def _refusal(needs: str, obstacle: str) -> Refusal:
    return Refusal(text=f"needs {needs}, and {obstacle}", obstacle=obstacle)


class Lack(NamedTuple):
    """Why a job cannot start now."""

    need: str
    situation: str = ""  # of the machine: other jobs that wait for the same have the same one
    of: Lacking = "gpu"  # of what there is too little

    @property
    def text(self) -> str:
        """Both as one sentence."""
        return f"{self.need}; {self.situation}" if self.situation else self.need

    def and_that(self, more: str) -> "Lack":
        """Return the same with more of the machine's situation."""
        return self._replace(situation=f"{self.situation}; {more}" if self.situation else more)

    @property
    def data(self) -> dict[str, Json]:
        """Both for programs."""
        return {"need": self.need, "situation": self.situation} if self.situation else {}


def ram_too_small(asked: int, machine: Machine) -> Refusal:
    """Return why a job asks for more main memory than there is."""
    text = f"needs {format_bytes(asked)} of memory, this machine has {format_bytes(machine.ram)}"
    return Refusal(text=text, obstacle=text)


def no_gpu(machine: Machine) -> Refusal:
    """Return why a job can have no GPU where none can be seen."""
    obstacle = f"this machine has none{f' ({machine.absent})' if machine.absent else ''}"
    text = f"needs a GPU, and {obstacle}"
    return Refusal(text=text, obstacle=obstacle, code=ReasonCode.NO_GPU)


def placed(job: Waiting, given: Running, places: Sequence[Card]) -> str:
    """Return why a job starts where it does, in numbers."""
    if not places:
        return f"on the CPU with {cores(given.cpus)}"
    on = ", ".join(card.gpu.label for card in sorted(places, key=place_of))
    free = format_bytes(min(card.free for card in places))
    if given.reservation is None:
        untried = job.source if job.vram_request is None else ""
        why = untried or "nobody knows what it takes"
        return f"on {on} without other jobs, as {why}; {free} free"
    source = f" ({job.source})" if job.source else ""
    alone = ", shared with no other job" if given.exclusive else ""
    return f"on {on}: gets {format_bytes(given.reservation)}{source} of {free} free{alone}"


def place_of(card: Card) -> tuple[int, int]:
    """Return a GPU's place in PCI order."""
    return card.gpu.index, card.gpu.mig or 0


def too_few(pool: Sequence[Card], need: Need, machine: Machine) -> Refusal:
    """Return why a job can have too few GPUs here, used or not."""
    return _refusal(_wanted(need), _offered(pool, need, machine))


def kept_back(ours: Sequence[Card], need: Need, machine: Machine) -> Refusal:
    """Return why a job can have too few GPUs: config.toml keeps some of them back."""
    devices = ", ".join(machine.rules.devices or ())
    obstacle = f"[sharing] devices = [{devices}] of config.toml leaves {_gpus(len(ours))}"
    return _refusal(_wanted(need), obstacle)


def _wanted(need: Need) -> str:
    device = need.device if need.device not in {"auto", "cuda"} else "a GPU"
    return device if need.count == 1 else f"{need.count} GPUs"


def _offered(pool: Sequence[Card], need: Need, machine: Machine) -> str:
    if need.visible is not None:
        seen = f"CUDA_VISIBLE_DEVICES={','.join(need.visible)}, with which it was queued,"
        return f"{seen} shows {_gpus(len(pool))}"
    if need.device not in {"auto", "cuda"}:
        labels = ", ".join(gpu.label for gpu in machine.gpus)
        return f"this machine has no such GPU, but {labels}" if not pool else "that is one"
    divided = need.count > 1 and any(gpu.mig is not None for gpu in machine.gpus)
    whole = " that are not divided" if divided else ""
    return f"this machine has {len(pool) or 'none'}{whole}"


def too_large(need: Need, pool: Pool, machine: Machine) -> Refusal:
    """Return why too few GPUs are large enough, in numbers."""
    reserve = machine.rules.reserve
    kept = f", {format_bytes(reserve)} are kept for others" if reserve else ""
    asked = format_bytes(need.vram_request or 0)
    if need.count > 1:
        enough = pool.large_enough(need)
        have = "has" if enough < 2 else "have"
        whose = f"{enough or 'none'} of its {len(pool.cards)} GPUs {have} so much{kept}"
        return _refusal(f"{asked} on each of {need.count} GPUs", f"can never fit: {whose}")
    where = pool.cards[0].gpu.label if len(pool.cards) == 1 else "this machine's largest GPU"
    largest = format_bytes(pool.largest)
    return _refusal(asked, f"can never fit: {where} has {largest} for it{kept}")


def too_large_unused(need: Need, pool: Pool, machine: Machine) -> Refusal:
    """Return why too few GPUs are large enough once the driver has its part of them, in numbers."""
    reserve = machine.rules.reserve
    kept = f", {format_bytes(reserve)} are kept for others" if reserve else ""
    where = pool.cards[0].gpu.label if len(pool.cards) == 1 else "this machine's emptiest GPU"
    free = format_bytes(pool.most_unused)
    asked = format_bytes(need.vram_request or 0)
    each = f" on each of {need.count} GPUs" if need.count > 1 else ""
    return _refusal(
        f"{asked}{each}",
        f"can never fit: {where} has {free} for it while nobody uses it{kept}, "
        "and the driver has the rest; ask for less",
    )


def _gpus(count: int) -> str:
    return {0: "none", 1: "one GPU"}.get(count, f"{count} GPUs")


def cores(count: int) -> str:
    """Return a number of cores in words."""
    return "1 core" if count == 1 else f"{count} cores"
