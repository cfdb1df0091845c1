"""The jobs of the workloads; sizes are those of real jobs, long durations are scaled down."""

import random

from benchmarks.filling.machine import Job

KINDS = ("train", "test", "purify", "restore", "poison", "sample", "disrupt", "forget", "erase")
METHODS = ("plain", "wavelet", "diffusion", "median", "jpeg", "autoencoder")
# beside a context of 0.6 GiB
SMALL_GIB = 0.7
MINUTE_S = 6.0  # stands for the minute in which a large program loads its data and its weights


def study(count: int, seed: int = 1) -> list[Job]:
    """Return short jobs of different kinds; another seed gives the same jobs with another setting."""
    rng = random.Random(0)
    return [
        Job(
            {
                "name": "study",
                "kind": KINDS[number % len(KINDS)],
                "startup": rng.uniform(0.4, 0.7),
                "seconds": rng.uniform(0.5, 1.2),
                "gib": rng.uniform(0.2, 0.6),
                "percent": rng.uniform(2, 5),
                "words": (
                    f"--method={METHODS[number // len(KINDS) % len(METHODS)]}",
                    f"--part={number}",
                    f"--seed={seed}",
                ),
            }
        )
        for number in range(count)
    ]


def programs(count: int = 28, vram_gib: int | None = None) -> list[Job]:
    """Return programs of 8 s, 1.3 GiB and 5 % load."""
    load = {"startup": 2, "seconds": 5.85, "gib": SMALL_GIB, "percent": 5, "kind": "predict"}
    return [
        Job(load | {"words": (f"--fold={number}",)}, vram_gib=vram_gib) for number in range(count)
    ]


def importing(count: int = 84) -> list[Job]:
    """Return programs of 1 s of work that import for longer, more so beside others: those measured on an H200."""
    load = {"startup": 4.5, "crowding": 0.04, "seconds": 1, "gib": SMALL_GIB, "percent": 3}
    return [
        Job(load | {"kind": "predict", "words": (f"--fold={number}",)}) for number in range(count)
    ]


def trainings(count: int, *, percent: float, seconds: float, gib: float = 9.4) -> list[Job]:
    """Return trainings that report their steps."""
    load = {"startup": 1, "seconds": seconds, "gib": gib, "percent": percent, "steps": 10 * count}
    more = {"kind": "train", "name": "training"}
    return [Job(load | more | {"words": (f"--seed={number}",)}) for number in range(count)]


def late(count: int = 8) -> list[Job]:
    """Return programs of 30 GiB that take them a scaled minute after their context."""
    load = {"startup": 1, "delay": MINUTE_S, "seconds": 5, "gib": 29.4, "percent": 20}
    return [
        Job(load | {"kind": "generate", "words": (f"--prompt={number}",)})
        for number in range(count)
    ]


def mixed() -> list[Job]:
    """Return two long trainings, 6 programs of 10 GiB and 40 short tests."""
    large = {"startup": 1, "seconds": 6, "gib": 9.4, "percent": 15, "kind": "features"}
    test = {"startup": 0.5, "seconds": 0.8, "gib": 0.4, "percent": 5, "kind": "test"}
    return [
        *trainings(2, percent=60, seconds=60, gib=7.4),
        *(Job(large | {"words": (f"--split={number}",)}) for number in range(6)),
        *(Job(test | {"words": (f"--epoch={number}",)}) for number in range(40)),
    ]


def small(count: int = 100) -> list[Job]:
    """Return jobs of 2 to 3 s."""
    rng = random.Random(0)
    load = {"name": "small", "kind": "predict", "startup": 0.5, "gib": 0.4, "percent": 5}
    return [
        Job(load | {"seconds": rng.uniform(1.3, 2.3), "words": (f"--part={number}",)})
        for number in range(count)
    ]


def growing(count: int = 40) -> list[Job]:
    """Return programs that take most of their memory in the middle of their work."""
    load = {"startup": 1, "seconds": 6, "gib": 0.7, "percent": 5, "grow": 2.4, "grow_after": 3}
    return [
        Job(load | {"kind": "train", "words": (f"--fold={number}",)}) for number in range(count)
    ]
