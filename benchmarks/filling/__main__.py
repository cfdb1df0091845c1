"""How well the queue fills simulated GPUs of 80 GiB with 16 cores, as a table with one row per workload.

python -m benchmarks.filling [--only NAME]… [--launcher PATH] [--json]

The table has these columns:

    `seconds`          Time through the queue. For "wide" and "exclusive" it is the waiting time of one job,
                       for "scheduler" CPU time.
    `compared with`    The best of 1, 2, 4, 8 and 14 jobs at a time without a queue, measured in the same run.
    `ratio, target`    `seconds` as a multiple of the previous column, and the largest wanted value.
    `busy s, held s`   GPU seconds of load, and GPU seconds in which a program held memory.
    `OOM`              Programs that ended because the memory of a GPU was full.
    `most`             The largest number of programs on one GPU at the same time.

No target is asserted. The exit code is 0.
"""

import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from benchmarks.filling.fixed import Impossible
from benchmarks.filling.machine import Maker
from benchmarks.filling.result import SCHEMA, Result, draw
from benchmarks.filling.workloads import WORKLOADS, Workload
from benchmarks.measured import record
from benchmarks.table import machine

LAUNCHER = Path(sys.executable).with_name("launcher")


@click.command()
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(list(WORKLOADS)),
    help="Measure this workload; repeatable.",
)
@click.option(
    "--launcher",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=LAUNCHER,
    help="Command that is measured, such as that of an older version.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(only: Sequence[str], launcher: Path, *, as_json: bool) -> None:
    """Measure how well the queue fills simulated cards."""
    # asked to end, it stops the queues that it opened
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="filling-", ignore_cleanup_errors=True) as name:
        maker = Maker(launcher.absolute(), Path(name))
        for key, workload in WORKLOADS.items():
            if only and key not in only:
                continue
            click.echo(f"{key}: {workload.title}", err=True)
            for result in _measured(key, workload, maker):
                results.append(result)
                click.echo(f"    {'  '.join(filter(None, result.cells()))}", err=True)
    if launcher == LAUNCHER:  # the page is about this version
        values = {result.workload: result.recorded() for result in results if not result.faults}
        record("filling", values)
    if as_json:
        rows = [result.record() for result in results]
        click.echo(json.dumps({"schema": SCHEMA, "machine": machine(), "results": rows}))
        return
    click.echo(machine())
    click.echo(draw(results))


def _measured(name: str, workload: Workload, maker: Maker) -> Iterator[Result]:
    """Give the rows of a workload; one that breaks off has a row that says why, and the others go on."""
    try:
        yield from workload.measure(maker)
    except (OSError, RuntimeError, Impossible) as error:
        yield Result(workload=name, seconds=None, faults=[f"{type(error).__name__}: {error}"])


if __name__ == "__main__":
    main()
