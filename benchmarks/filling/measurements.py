"""How the workloads are run through queues and timed."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.filling import jobs
from benchmarks.filling.fixed import NUMBERS, best_fixed
from benchmarks.filling.machine import CORES, Job, Machine, Maker, Queue
from benchmarks.filling.result import CORE, Result, Target

PATIENCE = 12.0  # multiples of the best fixed number's time, after which a queue is stopped
LEAST_S = 30.0  # the queue has at least so long
LIMIT_S = 400.0  # if there is no such time; 200 short jobs take 300 s one after another
USERS_PATIENCE = 3.0  # multiples of the time of one user, who has as many jobs
FIRST_MOST = 1.1  # multiple of the time alone that counts as equally early
SLOWED_MOST = 1.3  # multiple of the time alone that a training may take beside others
SHORTAGES_MOST = 3  # programs that may run out of memory until their need is known
FOREIGN_GIB = 39.4  # with its context half of the card
SCHEDULER_S = 20.0  # long enough for sixty clock ticks of CPU time at the target
START_S = 60.0  # in which a queue should have started 14 jobs
# the limit of a user who wants 14 jobs on a card
SHARING = "[sharing]\nmax_per_gpu = 14\n"

Judge = Callable[[Machine, float], tuple[list[str], list[str]]]  # faults, remarks


def timed(queue: Queue, work: Sequence[Job], limit_s: float) -> tuple[float, list[str]]:
    """Queue jobs and wait for them; return the seconds, and what is wrong with them."""
    began = queue.add(work)
    queue.wait(began + limit_s - time.monotonic())
    return time.monotonic() - began, queue.counts().faults()


def compare(
    maker: Maker,
    name: str,
    work: Sequence[Job],
    target: Target,
    *,
    cards: int = 1,
    numbers: Sequence[int] = NUMBERS,
    judge: Judge = lambda *_: ([], []),
) -> Result:
    """Return how a queue does a workload compared with the best fixed number of jobs at a time."""
    fixed = best_fixed(maker, work, cards=cards, numbers=numbers)
    with maker.machine(cards) as machine:
        seconds, faults = timed(machine.open_queue(), work, limit_of(fixed.seconds))
        more, remarks = judge(machine, fixed.first_s)
        return Result(
            workload=name,
            seconds=seconds,
            base_s=fixed.seconds,
            base=str(fixed),
            target=target,
            faults=[*faults, *more],
            remarks=remarks,
            **machine.use(),
        )


def limit_of(base_s: float) -> float:
    """Return when a queue is stopped."""
    return max(LEAST_S, PATIENCE * base_s)


def short(maker: Maker) -> Iterator[Result]:
    """A study of short jobs, and again with another seed in the same queue."""
    first = jobs.study(197)
    fixed = best_fixed(maker, first)
    with maker.machine() as machine:
        queue = machine.open_queue()
        shortages = 0
        for name, work, most in (("short", first, 1.3), ("again", jobs.study(197, seed=2), 1.15)):
            machine.cards.restart_usage()
            seconds, faults = timed(queue, work, limit_of(fixed.seconds))
            use: dict[str, Any] = machine.use()
            use["out_of_memory"] -= shortages
            shortages += use["out_of_memory"]
            yield Result(
                workload=name,
                seconds=seconds,
                base_s=fixed.seconds,
                base=str(fixed),
                target=Target(most=most),
                faults=faults,
                **use,
            )
            if faults:  # the next one would count processes that are left
                return


def full(maker: Maker) -> Iterator[Result]:
    """Trainings that fill a card by themselves."""

    def judge(machine: Machine, alone_s: float) -> tuple[list[str], list[str]]:
        runs = machine.runs("training")
        if not runs:
            return ["none ended"], []
        ratio = min(run.seconds for run in runs) / alone_s
        text = f"the first ended after {ratio:.2f} × the time alone"
        return ([text], []) if ratio > FIRST_MOST else ([], [text])

    work = jobs.trainings(6, percent=95, seconds=5)
    yield compare(maker, "full", work, Target(most=1.05), numbers=(1,), judge=judge)


def late(maker: Maker) -> Iterator[Result]:
    """Programs of 30 GiB that allocate late."""

    def judge(machine: Machine, _alone_s: float) -> tuple[list[str], list[str]]:
        count = machine.shortages()
        return ([f"more than {SHORTAGES_MOST} out of memory"] if count > SHORTAGES_MOST else []), []

    yield compare(maker, "late", jobs.late(), Target(most=1.5), judge=judge)


def mixed(maker: Maker) -> Iterator[Result]:
    """Trainings, large programs and short tests together."""
    work = jobs.mixed()
    alone = best_fixed(maker, work[:1], numbers=(1,)).seconds

    def judge(machine: Machine, _alone_s: float) -> tuple[list[str], list[str]]:
        slowed = max((run.seconds for run in machine.runs("training")), default=0.0) / alone
        text = f"slowest training {slowed:.2f} × alone"
        return ([text], []) if slowed > SLOWED_MOST else ([], [text])

    yield compare(maker, "mixed", work, Target(most=1.2), judge=judge)


def cards(maker: Maker) -> Iterator[Result]:
    """Short jobs on several cards."""
    for count in (4, 8):
        yield compare(maker, f"cards {count}", jobs.study(200), Target(most=1.3), cards=count)


def users(maker: Maker) -> Iterator[Result]:
    """Two users who start at the same moment, compared with one user."""
    with maker.machine() as machine:
        one_s, faults = timed(machine.open_queue(), jobs.study(200), LIMIT_S)
    work = jobs.study(200)
    with maker.machine() as machine:
        queues = [machine.open_queue(name) for name in ("ada", "bob")]
        limit_s = USERS_PATIENCE * one_s
        began = time.monotonic()
        for queue, part in zip(queues, (work[::2], work[1::2]), strict=True):
            queue.add(part)
        for queue in queues:
            queue.wait(began + limit_s - time.monotonic())
        seconds = time.monotonic() - began
        shortages = ["out of memory"] if machine.shortages() else []
        yield Result(
            workload="users",
            seconds=seconds,
            base_s=one_s,
            base="one user",
            target=Target(most=1.3),
            faults=[
                *(f"one user: {fault}" for fault in faults),
                *(fault for queue in queues for fault in queue.counts().faults()),
                *shortages,
            ],
            **machine.use(),
        )


def wide(maker: Maker) -> Iterator[Result]:
    """A job of two cards among small ones."""
    job = Job({"gib": 2, "percent": 30, "seconds": 2, "startup": 0.5, "name": "it"}, gpus=2)
    yield _among(maker, "wide", job, jobs.small(), Target(most=1.2), cards=2)


def exclusive(maker: Maker) -> Iterator[Result]:
    """An exclusive job among short ones."""
    load = {"gib": 2, "percent": 30, "seconds": 2, "startup": 0.5, "name": "it"}
    yield _among(
        maker, "exclusive", Job(load, exclusive=True), jobs.study(200), Target(most=2.0), cards=1
    )


def _among(
    maker: Maker, name: str, job: Job, others: Sequence[Job], target: Target, *, cards: int
) -> Result:
    """Queue half of some jobs, one job, and the other half; return how long it waits once it is first in line."""
    half = len(others) // 2
    later = [each.named("later") for each in others[half:]]
    with maker.machine(cards) as machine:
        queue = machine.open_queue()
        queue.add([*others[:half], job, *later])
        queue.wait(LIMIT_S)
        faults = queue.counts().faults()
        found, before = machine.runs("it"), machine.runs(others[0].name)
        longest = max((run.seconds for run in machine.runs() if run.name != "it"), default=None)
        first = max((run.began for run in before), default=0.0)
        passed = sum(run.began < found[0].began for run in machine.runs("later")) if found else 0
        return Result(
            workload=name,
            seconds=max(0.0, found[0].began - first) if found else None,
            base_s=longest,
            base="longest other job",
            target=target,
            faults=faults,
            remarks=[f"{passed} later jobs began before it"],
            **machine.use(),
        )


def foreign(maker: Maker) -> Iterator[Result]:
    """A program of no queue takes half the card in the middle."""
    work = jobs.growing()
    with maker.machine() as machine:
        queue = machine.open_queue()
        began = queue.add(work)
        machine.until(lambda: len(machine.runs()) >= len(work) // 4, LIMIT_S)
        argv = machine.cards.program(
            gib=FOREIGN_GIB, percent=10, seconds=1000, name="foreign", kind="foreign"
        )
        other = machine.cards.start(argv, machine.uuids[0])
        tries = 1
        try:
            while queue.counts().left and time.monotonic() - began < LIMIT_S:
                if other.poll() is not None:  # too little memory was left
                    other = machine.cards.start(argv, machine.uuids[0])
                    tries += 1
                time.sleep(0.2)
            seconds = time.monotonic() - began
        finally:
            other.kill()
            other.wait()
        use = machine.use()
        use["out_of_memory"] -= len(machine.runs("foreign"))
        yield Result(
            workload="foreign",
            seconds=seconds,
            faults=queue.counts().faults(),
            remarks=[f"the foreign program had its memory at try {tries}"],
            **use,
        )


def victim(maker: Maker) -> Iterator[Result]:
    """A job with declared memory that allocates late, among unknown ones."""
    declared = {"gib": 38, "percent": 10, "seconds": 3, "startup": 1, "delay": jobs.MINUTE_S}
    unknown = {"gib": 24.4, "percent": 10, "seconds": 6, "startup": 1, "delay": 2}
    work = [
        Job(declared | {"name": "declared", "kind": "train"}, vram_gib=40),
        *(Job(unknown | {"kind": "generate", "words": (f"--prompt={i}",)}) for i in range(4)),
    ]
    with maker.machine() as machine:
        queue = machine.open_queue()
        seconds, faults = timed(queue, work, LIMIT_S)
        ended = [run.outcome for run in machine.runs("declared")]
        if ended != ["done"]:
            faults.append(f"the declared job: {', '.join(ended) or 'never ended'}")
        yield Result(workload="victim", seconds=seconds, faults=faults, **machine.use())


def scheduler(maker: Maker) -> Iterator[Result]:
    """CPU time of the scheduler while 14 jobs run on a card."""
    load = {"gib": 3, "percent": 5, "seconds": LIMIT_S, "startup": 1, "steps": 1000}
    work = [Job(load | {"words": (f"--fold={i}",)}, vram_gib=4) for i in range(14)]
    with maker.machine() as machine:
        queue = machine.open_queue(config=SHARING)
        queue.add(work)
        machine.until(lambda: machine.cards.alive() == len(work), START_S)
        count = machine.cards.alive()
        time.sleep(2)  # until what their starts caused is over
        before, began = queue.scheduler_cpu_s(), time.monotonic()
        time.sleep(SCHEDULER_S)
        seconds, passed_s = queue.scheduler_cpu_s() - before, time.monotonic() - began
        yield Result(
            workload="scheduler",
            seconds=seconds,
            base_s=passed_s,
            base=CORE,
            target=Target(most=0.03),
            faults=[] if count == len(work) else [f"only {count} of {len(work)} jobs run"],
            remarks=[f"{CORES} cores simulated"],
            **machine.use(),
        )
