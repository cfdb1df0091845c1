"""Memory that runs out on a real GPU: which jobs end, and which jobs run again.

A program on a full GPU ends with torch's own message. It must run again with a larger request, and
finish. A training that needs more than it requested has to be stopped by its
limit while another program shares the card, and must not harm that.
"""

import sys
from typing import Any

from benchmarks.gpu.bench import GIB, Bench
from benchmarks.gpu.measurements.queue import Queue, Usage, queue
from benchmarks.gpu.measurements.sharing import SLACK, state_row

PROGRAM = (sys.executable, "-m", "benchmarks.gpu.measurements.programs")
FREE = 6 * GIB  # memory that the first program leaves free
WANTED = 10 * GIB  # memory that the second one takes
REQUEST = 2 * GIB  # memory that it requests
GREEDY = """
name: greedy
about: a training that requests too little

defaults:
  data_root: data/greedy
  split_path: data/greedy/splits
  model: {model}
  weights: none
  resize_size: {size}
  batch_size: {batch}
  num_epochs: {epochs}
  precision: {precision}

resources:
  train: {{{resources}}}

sample:
  - {{size: {size}, train: {images}, val: 16, test: 16}}

train:
  - {{model: null, data: "gan2:pre"}}
"""


def measure(bench: Bench) -> None:
    """Fill the card, then let a training meet its limit."""
    with queue(bench) as own:
        _full(own)
        _greedy(own)


def _full(own: Queue) -> None:
    """Fill the GPU except for a few GiB, and queue a program that needs more."""
    bench, total = own.bench, own.card().total
    free, wanted = min(FREE, total // 4), min(WANTED, total // 2)
    gate = bench.path / "full"
    size = total - free - GIB  # a context and the driver's own part stay out of it
    first = own.add(*PROGRAM, "hold", str(size), str(gate), vram=_mib(total - free))
    own.until(lambda: (own.card().used or 0) > size, "the card is nearly full")
    second = own.add(*PROGRAM, "grow", str(wanted), vram=_mib(min(REQUEST, free // 2)), retries="0")
    own.until(lambda: own.ended(int(second)), "the program has met the end of the memory")
    gate.touch()
    shown = own.until_ended([first, second])
    attempts = shown[second]["attempts"]
    endings = [(each["outcome"] or {}).get("ending") for each in attempts]
    bench.row("card full: attempts", len(attempts))
    bench.row("card full: how the attempts ended", ", ".join(map(str, endings)),
              holds=endings[0] == "out-of-memory" and endings[-1] == "done")  # fmt: skip
    _shortage(bench, attempts[0])
    grown = attempts[-1]["vram"] > attempts[0]["vram"]
    bench.row(
        "… request of the first and of the last attempt",
        f"{attempts[0]['vram'] / GIB:.3g}, {attempts[-1]['vram'] / GIB:.3g}", "GiB",
        holds=grown,
    )  # fmt: skip
    peak = attempts[-1]["peak"]
    bench.row("… peak of the last attempt", None if peak is None else peak / GIB, "GiB",
              needed=wanted / GIB)  # fmt: skip
    bench.row("… the program that filled the card", shown[first]["state"],
              holds=shown[first]["state"] == "done")  # fmt: skip


def _shortage(bench: Bench, attempt: dict[str, Any]) -> None:
    """Show what was read from the program's message."""
    outcome = attempt["outcome"] or {}
    read = {key: outcome.get(key) for key in ("held", "wanted", "cap", "total", "free")}
    text = ", ".join(f"{key} {value / GIB:.3g}" for key, value in read.items() if value is not None)
    bench.row(
        "… read from its message", text or None, "GiB", holds=outcome.get("wanted") is not None
    )


def _greedy(own: Queue) -> None:
    """Let a training that needs far more than its request share the card."""
    bench = own.bench
    gate = bench.path / "greedy"
    neighbour = own.add(*PROGRAM, "hold", str(GIB), str(gate), vram="2GiB")
    own.until(lambda: own.state(neighbour) == "running", "the neighbour runs")
    own.run("greedy.yaml", _task(bench))
    job = "train/gan2:pre"
    numbers = {"greedy": own.show(job)["id"]}
    usages: dict[str, Usage] = {}
    tries = 1 if bench.rehearsal else 2

    def met() -> bool:
        own.observe(numbers, usages)
        return len(own.ended(numbers["greedy"])) >= tries or own.state(job) in {"done", "failed"}

    own.until(met, "the training has met its limit")
    unharmed = own.state(neighbour) == "running"
    gate.touch()
    greedy_rows(
        bench, own.until_ended([job])[job], usages.get("greedy", Usage()), unharmed=unharmed
    )


def greedy_rows(bench: Bench, record: dict[str, Any], usage: Usage, *, unharmed: bool) -> None:
    """Write down how a training that requested too little was held.

    Args:
        bench: gets the rows.
        record: what the queue knows of it.
        usage: what was seen of it.
        unharmed: whether its neighbour ran on.
    """
    attempts = record["attempts"]
    state_row(bench, "greedy training", record)
    bench.row("… its neighbour ran on meanwhile", unharmed, holds=unharmed)
    if bench.rehearsal:
        return
    ending = (attempts[0]["outcome"] or {}).get("ending")
    short = ending == "out-of-memory"
    bench.row("greedy training: attempts", len(attempts))
    bench.row("… how its first attempt ended", ending, holds=short)
    _shortage(bench, attempts[0])
    beyond = max(0, usage.beyond)
    bench.row("… memory beyond its limit, most", beyond / GIB, "GiB", holds=beyond <= SLACK)
    claims = [f"{each['vram'] / GIB:.3g}" for each in attempts if each["vram"]]
    bench.row("… requests of its attempts", ", ".join(claims), "GiB", holds=len(claims) > 1)


def _task(bench: Bench) -> str:
    return GREEDY.format(
        model="slim18" if bench.rehearsal else "nodown18",
        size=bench.size(224, 32),
        batch=bench.size(128, 16),
        images=bench.size(128, 16),
        epochs=bench.size(3, 1),
        precision="fp32",
        resources="cpus: 1, device: cpu" if bench.rehearsal else "cpus: 1, vram: 1GiB",
    )


def _mib(count: int) -> str:
    return f"{count >> 20}MiB"
