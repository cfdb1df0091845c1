"""Why a job starts where it does, and why a machine can never hold one: in words and numbers."""

from collections.abc import Sequence

from launcher.scheduler.gpu_pool import Pool
from launcher.scheduler.gpu_slot import Card, Need
from launcher.scheduler.model import Machine, Running, Waiting
from launcher.units import format_bytes


def placed(one: Waiting, given: Running, places: Sequence[Card]) -> str:
    """Return why a job starts where it does, in numbers."""
    if not places:
        return f"on the CPU with {cores(given.cpus)}"
    on = ", ".join(card.gpu.label for card in sorted(places, key=place_of))
    free = format_bytes(min(card.free for card in places))
    if given.claim is None:
        return f"on {on} without other jobs, as nobody knows what it takes; {free} free"
    source = f" ({one.source})" if one.source else ""
    alone = ", shared with no other job" if given.lone else ""
    return f"on {on}: gets {format_bytes(given.claim)}{source} of {free} free{alone}"


def place_of(card: Card) -> tuple[int, int]:
    """Return a GPU's place in PCI order."""
    return card.gpu.index, card.gpu.mig or 0


def too_few(pool: Sequence[Card], need: Need, machine: Machine) -> str:
    """Return why a job can have too few GPUs here, whoever uses them."""
    return f"needs {_wanted(need)}, and {_offered(pool, need, machine)}"


def kept_back(ours: Sequence[Card], need: Need, machine: Machine) -> str:
    """Return why a job can have too few GPUs: config.toml keeps some of them back."""
    devices = ", ".join(machine.rules.devices or ())
    return f"needs {_wanted(need)}, and [sharing] devices = [{devices}] of config.toml leaves {_gpus(len(ours))}"


def _wanted(need: Need) -> str:
    one = need.device if need.device not in {"auto", "cuda"} else "a GPU"
    return one if need.count == 1 else f"{need.count} GPUs"


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


def too_large(need: Need, pool: Pool, machine: Machine) -> str:
    """Return why too few GPUs are large enough, in numbers."""
    reserve = machine.rules.reserve
    kept = f", {format_bytes(reserve)} are kept for others" if reserve else ""
    asked = format_bytes(need.claim or 0)
    if need.count > 1:
        enough = pool.large_enough(need)
        return (
            f"needs {asked} on each of {need.count} GPUs, and can never fit: "
            f"{enough or 'none'} of its {len(pool.cards)} GPUs "
            f"{'has' if enough < 2 else 'have'} so much{kept}"
        )
    one = pool.cards[0].gpu.label if len(pool.cards) == 1 else "this machine's largest GPU"
    return f"needs {asked}, and can never fit: {one} has {format_bytes(max(0, pool.largest))} for it{kept}"


def _gpus(count: int) -> str:
    return {0: "none", 1: "one GPU"}.get(count, f"{count} GPUs")


def cores(count: int) -> str:
    """Return a number of cores in words."""
    return "1 core" if count == 1 else f"{count} cores"
