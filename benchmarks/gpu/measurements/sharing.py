"""Three trainings on one GPU, through a real queue: request, limit and usage of each.

Afterwards the scheduler is restarted, and a fourth training of the same type requests nothing. It
must get the usage measured from the first three.
"""

from typing import Any

from benchmarks.gpu.bench import GIB, Bench
from benchmarks.gpu.measurements.queue import Queue, Usage, queue
from launcher.queue.workers.memory_share import DEFAULT_CONTEXT_BYTES

REQUEST = 8 * GIB
SHARE = 4  # a smaller card gives each a quarter
MARGIN = 1.05  # on a learned peak; at least LEAST
LEAST = 256 << 20
SLACK = 64 << 20  # usage can be measured a moment before or after
ALL_AT_ONCE = (
    "[sharing]\nmax_per_gpu = 3\n"  # else two, until it is known how busy they keep a card
)
TASKS = """
name: {name}
about: trainings that share a card

defaults:
  data_root: data/sharing
  split_path: data/sharing/splits
  model: {model}
  weights: none
  resize_size: {size}
  patch_size: {patch}
  batch_size: 64
  num_epochs: {epochs}
  lr: 0.001
  precision: {precision}

resources:
  train: {{{resources}}}

sample:
  - {{size: {size}, train: {images}, val: 16, test: 16}}

train:
  - {{model: null, data: "gan2:pre", matrix: {{seed: {seeds}}}}}
"""


def tasks(bench: Bench, name: str, seeds: list[int], resources: str) -> str:
    """Return the task file of trainings that differ only in their seeds."""
    return TASKS.format(
        name=name,
        model="slim18" if bench.rehearsal else "nodown18",
        size=bench.size(128, 32),
        patch=bench.size(96, -1),
        images=bench.size(400, 16),
        epochs=bench.size(30, 2),
        precision="fp32" if bench.rehearsal else "bf16",
        resources="cpus: 1, device: cpu" if bench.rehearsal else resources,
        seeds=seeds,
    )


def measure(bench: Bench) -> None:
    """Let three trainings share the card, then a fourth one learn from them."""
    with queue(bench, ALL_AT_ONCE) as own:
        total = own.card().total
        request = min(REQUEST, total // SHARE)
        own.run(
            "sharing.yaml",
            tasks(bench, "sharing", [1, 2, 3], f"cpus: 1, vram: {request >> 20}MiB"),
        )
        jobs = {f"seed {seed}": f"train/gan2:pre@seed={seed}" for seed in (1, 2, 3)}
        peaks = _shared(own, jobs)
        own.restart()
        _learned(own, peaks)


def _shared(own: Queue, jobs: dict[str, str]) -> list[int]:
    """Watch the trainings to their end; return the peaks that the queue recorded."""
    numbers = {name: own.show(job)["id"] for name, job in jobs.items()}
    usages: dict[str, Usage] = {}
    at_once, fullest = 0, 0.0

    def ended() -> bool:
        nonlocal at_once, fullest
        at_once = max(at_once, own.observe(numbers, usages))
        card = own.card()
        fullest = max(fullest, (card.used or 0) / (card.total or 1))
        return all(map(own.ended, numbers.values()))

    own.until(ended, "three trainings have ended")
    shown = own.until_ended(list(jobs.values()))
    bench = own.bench
    for name, job in jobs.items():
        rows(bench, name, shown[job], usages.get(name, Usage()), own.card().uuid)
    three = None if bench.rehearsal else at_once == 3
    bench.row("trainings that held memory at once", at_once, holds=three)
    bench.row("the card's use, most", 100 * fullest, "%", holds=fullest <= 1)
    return [record["attempts"][-1]["peak"] or 0 for record in shown.values()]


def rows(bench: Bench, name: str, record: dict[str, Any], usage: Usage, uuid: str) -> None:
    """Write down what a training requested, might take, and took.

    Args:
        bench: gets the rows.
        name: of the training.
        record: what the queue knows of it.
        usage: what was seen of it.
        uuid: of the card.
    """
    attempt = record["attempts"][-1]
    claim, peak = attempt["vram"], attempt["peak"]
    state_row(bench, name, record)
    bench.row(f"{name}: request", _gib(claim), "GiB")
    if bench.rehearsal:
        return
    within = usage.beyond <= SLACK
    limited = usage.limit is not None
    bench.row(f"{name}: limit of its allocator", _gib(usage.limit), "GiB", holds=limited)
    bench.row(
        f"{name}: allocator, most", _gib(usage.reserved), "GiB", holds=within,
        note="never above its limit" if within else f"{usage.beyond >> 20} MiB above its limit",
    )  # fmt: skip
    bench.row(
        f"{name}: process as the driver lists it, most", _gib(usage.driver) or None, "GiB",
        note="" if usage.driver else "the driver does not list it: the worker's report counts",
    )  # fmt: skip
    busy = None if usage.busy is None else 100 * usage.busy
    bench.row(f"{name}: how busy it kept the card by the driver, most", busy, "%")
    if usage.driver:
        context = usage.driver - usage.reserved
        bench.row(
            f"{name}: CUDA's own part", _gib(context), "GiB", guessed=DEFAULT_CONTEXT_BYTES / GIB
        )
    bench.row(
        f"{name}: peak in the queue's records", _gib(peak), "GiB",
        holds=peak is not None and peak >= usage.reserved and peak <= claim,
    )  # fmt: skip
    bench.row(f"{name}: UUID read back from CUDA", usage.uuid, holds=usage.uuid == uuid)


def state_row(bench: Bench, name: str, record: dict[str, Any]) -> None:
    """Write down how a job ended; it should be done."""
    done = record["state"] == "done"
    bench.row(f"{name}: state", record["state"], holds=done, note="" if done else record["reason"])


def _learned(own: Queue, peaks: list[int]) -> None:
    """Queue a training without a request; it gets what was learned."""
    bench = own.bench
    own.run("learned.yaml", tasks(bench, "learned", [4], "cpus: 1"))
    job = "train/gan2:pre@seed=4"
    record = own.until_ended([job])[job]
    claim = record["attempts"][0]["vram"]
    state_row(bench, "after a restart of the scheduler", record)
    if bench.rehearsal:
        return
    peak = max(peaks)
    most = max(round(peak * MARGIN), peak + LEAST) + LEAST
    bench.row(
        "… request that was learned", _gib(claim), "GiB",
        holds=claim is not None and peak <= claim <= most, largest_peak=_gib(peak),
    )  # fmt: skip


def _gib(count: int | None) -> float | None:
    return None if count is None else count / GIB
