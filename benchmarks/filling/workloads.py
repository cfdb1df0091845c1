"""The registry of workloads: each with a title and the function that measures it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks.filling import jobs, measurements
from benchmarks.filling.machine import Maker
from benchmarks.filling.result import Result, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Something that people queue."""

    title: str
    measure: Callable[[Maker], Iterator[Result]]


def unknown(maker: Maker) -> Iterator[Result]:
    """Programs of which nothing is known."""
    target = Target(most=36, in_seconds=True)
    yield measurements.compare(maker, "unknown", jobs.programs(), target)


def declared(maker: Maker) -> Iterator[Result]:
    """The same programs with declared memory."""
    target = Target(most=30, in_seconds=True)
    yield measurements.compare(maker, "declared", jobs.programs(vram_gib=2), target)


def importing(maker: Maker) -> Iterator[Result]:
    """Programs that slow each other down while they start."""
    yield measurements.compare(maker, "importing", jobs.importing(), Target(most=1.6))


WORKLOADS: Mapping[str, Workload] = {
    "short": Workload(
        title="197 short jobs of a study; again with another seed in the same queue",
        measure=measurements.short,
    ),
    "unknown": Workload(
        title="28 programs of 8 s, 1.3 GiB and 5 % load; memory unknown", measure=unknown
    ),
    "declared": Workload(title="the same with --vram 2GiB", measure=declared),
    "importing": Workload(
        title="84 programs of 1 s that import for 4.5 s, each 4 % longer for each other one",
        measure=importing,
    ),
    "full": Workload(title="6 trainings of 95 % load", measure=measurements.full),
    "late": Workload(
        title="8 programs of 30 GiB, allocated after a minute; memory unknown",
        measure=measurements.late,
    ),
    "mixed": Workload(
        title="2 trainings of 60 % load, 6 programs of 10 GiB, 40 short tests",
        measure=measurements.mixed,
    ),
    "cards": Workload(title="200 short jobs on 4 and on 8 cards", measure=measurements.cards),
    "users": Workload(
        title="two users with 100 short jobs each on one card", measure=measurements.users
    ),
    "wide": Workload(
        title="the wait of a job of 2 GPUs among 100 small jobs", measure=measurements.wide
    ),
    "foreign": Workload(
        title="a program of no queue takes 40 GiB in the middle", measure=measurements.foreign
    ),
    "victim": Workload(
        title="a job with --vram 40GiB that allocates late, among unknown jobs of 25 GiB",
        measure=measurements.victim,
    ),
    "exclusive": Workload(
        title="the wait of an --exclusive job among 200 short jobs",
        measure=measurements.exclusive,
    ),
    "scheduler": Workload(
        title="CPU time of the scheduler with 14 jobs on a card for 20 s",
        measure=measurements.scheduler,
    ),
}
