"""`launcher simulate FILE`: what the scheduler would make of a trace or task file on any machine."""

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import click

from launcher.cli.complete import offer_files
from launcher.cli.option_types import SIZE, Value, flag, json_option, real, span, whole
from launcher.errors import MachineError, UsageError, counted
from launcher.planning.estimates import read_history
from launcher.planning.load import plan_files
from launcher.screens.format import harmless
from launcher.screens.terminal import remark, say_json, terminal_width
from launcher.simulate.baselines import Assumptions, Study, draw_study, study
from launcher.simulate.machine import Fleet, fit, read_fleet
from launcher.simulate.queue import Foresight, Memory
from launcher.simulate.trace import (
    SAID,
    Planned,
    TraceJob,
    choose,
    draw_memory,
    planned_jobs,
    read_trace,
)
from launcher.store.client import open_queue
from launcher.system.files import write_atomic
from launcher.system.installation import install_command
from launcher.system.paths import find_home
from launcher.system.processes import cores
from launcher.units import format_bytes

DURATION_S, VRAM = 3600.0, 8 * 1024**3  # of a planned job of which nothing is known
MANY_JOBS = 5000  # of fewer, all policies are replayed before other processes are there
_TASKFILES = (".yaml", ".yml")


@click.command()
@click.argument("file", metavar="FILE", shell_complete=offer_files)
@click.option(
    "--gpus",
    "fleet",
    type=Value("gpus", read_fleet),
    required=True,
    metavar="NxSIZE",
    help="GPUs, such as 8x24GiB or 2x80GiB+6x24GiB; of several machines: 4x(2x24GiB).",
)
@click.option("--jobs", type=whole(1), metavar="N", help="Replay the first N jobs only.")
@flag("--all-at-once", help="Submit all jobs at the beginning.")
@click.option(
    "--load", type=real(0.01, 100), default="1", help="Multiply the arrival rate by this."
)
@click.option(
    "--slowdown",
    type=real(1, 10),
    default="1.3",
    show_default=True,
    help="Factor on the time of each of two jobs that share a GPU; for n jobs, its power of n - 1.",
)
@click.option(
    "--max-per-gpu",
    "most",
    type=whole(1, 64),
    default=2,
    show_default=True,
    metavar="N",
    help="Let at most this many jobs share a GPU.",
)
@click.option(
    "--forecast",
    "foresight",
    type=click.Choice([foresight.value for foresight in Foresight]),
    default=Foresight.LEARNED.value,
    show_default=True,
    help="Durations that the policy knows: the true ones, those learned from ended jobs, or none.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of the VRAM requests that are drawn.",
)
@click.option(
    "--vram", type=SIZE, help="VRAM request of each job that has none, instead of drawing it."
)
@click.option(
    "--memory",
    "knows",
    type=click.Choice([memory.value for memory in Memory]),
    default=Memory.KNOWN.value,
    show_default=True,
    help="VRAM requests that launcher knows: each job's, or those learned from ended jobs.",
)
@click.option(
    "--reserve",
    type=SIZE,
    default="0",
    help="VRAM of each GPU that is left to others, as in config.toml.",
)
@click.option(
    "--baseline",
    type=SIZE,
    default="0",
    help="VRAM of each GPU that is in use when no job runs on it.",
)
@flag("--users", help="Give each user of the trace (column user) a separate queue.")
@click.option(
    "--others",
    metavar="TRACE",
    help="Jobs of other people, whom plain FIFO schedulers give whole idle GPUs.",
)
@click.option(
    "--duration", type=span(), help="Duration of a task file's job that never ran.  [default: 1h]"
)
@click.option("--timeline", metavar="FILE.svg", help="Also draw what ran where and when, as SVG.")
@json_option
def command(
    file: str,
    fleet: Fleet,
    jobs: int | None,
    all_at_once: bool,
    load: float,
    slowdown: float,
    most: int,
    foresight: str,
    seed: int,
    vram: int | None,
    knows: str,
    reserve: int,
    baseline: int,
    users: bool,
    others: str | None,
    duration: float | None,
    timeline: str | None,
    as_json: bool,
) -> None:
    """Replay FILE on simulated GPUs, with the policy of the scheduler. Nothing is run.

    FILE is a trace (CSV with columns such as submit_s, duration_s, gpus, vc) or a task file, whose
    jobs take as long as they took before. The results stand beside first-come-first-served (FIFO)
    and shortest-job-first (SJF), which assign whole GPUs, and a lower bound of the makespan.

    A trace has no VRAM requests, so they are drawn, by jobs: 2 GiB 10 %, 3 GiB 15 %, 4 GiB
    20 %, 6 GiB 20 %, 8 GiB 15 %, 11 GiB 10 %, 16 GiB 6 %, 22 GiB 4 %. Jobs that can never fit are
    dropped and counted. Cores and main memory are unlimited.

    \b
    Examples:
      launcher simulate jobs.csv --gpus 8x24GiB
      launcher simulate jobs.csv --gpus '4x(8x24GiB)+2x(4x80GiB)'
      launcher simulate tasks/night.yaml --gpus 2x80GiB --timeline night.svg
    """
    draw = None if timeline is None else _drawing(timeline)
    fleet = fleet._replace(reserve=reserve, baseline=baseline)
    planned = Path(file).suffix.lower() in _TASKFILES
    durations = ""
    if planned:
        plan = _of_taskfile(file, duration or DURATION_S, vram or VRAM)
        trace_jobs, durations = plan.jobs, plan.in_words()
        memory, drawn = f"as declared or measured, else {format_bytes(vram or VRAM)}", None
    else:
        trace_jobs, memory, drawn = _of_trace(file, duration, vram, seed, fleet)
    chosen = choose(trace_jobs, first=jobs, all_at_once=all_at_once, load=load)
    workload = fit(chosen, fleet)
    if not workload.jobs:
        raise UsageError(
            f"not one of {counted(len(chosen), 'job')} can ever fit on {fleet}; give it larger --gpus"
        )
    if users and not any(job.user for job in workload.jobs):
        raise UsageError(f"--users: {file!r} names no user; give a trace with a column user")
    assumptions = Assumptions(
        fleet=fleet,
        slowdown=slowdown,
        most=most,
        foresight=Foresight(foresight),
        load=load,
        all_at_once=all_at_once,
        memory=memory,
        knows=Memory(knows),
        users=users,
        others=() if others is None else fit(read_trace(Path(others)), fleet).jobs,
        durations=durations,
        seed=drawn,
    )
    processes = cores() if len(workload.jobs) >= MANY_JOBS else 1
    done = study(workload, assumptions, _teller(len(workload.jobs), processes), processes=processes)
    name = harmless(Path(file).name)
    if draw is not None:
        draw(name, done)
    if as_json:
        say_json(done.record())
    else:
        click.echo(draw_study(name, done, width=terminal_width()))


def _of_trace(
    file: str, duration: float | None, vram: int | None, seed: int, fleet: Fleet
) -> tuple[tuple[TraceJob, ...], str, int | None]:
    """Return a trace's jobs, what they claim in words, and the seed where that is drawn."""
    if duration is not None:
        raise UsageError(
            "--duration is for task files: a trace says how long its jobs took; leave it out"
        )
    trace_jobs = read_trace(Path(file))
    if all(job.vram is not None for job in trace_jobs):
        return trace_jobs, "as the trace names it", None
    card = max(fleet.room)
    parts = any(job.share is not None and job.vram is None for job in trace_jobs)
    of_parts = "; of jobs of a part of a GPU this part of its memory" if parts else ""
    if vram is not None:
        drawn = draw_memory(trace_jobs, seed, always=vram, card=card)
        return drawn, format_bytes(vram) + of_parts, None
    drawn = draw_memory(trace_jobs, seed, card=card)
    return drawn, f"drawn with seed {seed}: {SAID}{of_parts}", seed


def _of_taskfile(file: str, seconds: float, vram: int) -> Planned:
    """Return a task file's jobs; they take as long and claim as much as this queue has seen."""
    plans = plan_files([file])
    kinds = {job.kind: made.kinds[job.kind] for made in plans for job in made.jobs}
    home = find_home(os.environ)
    with open_queue() if home.exists() else nullcontext((home, None)) as (_, store):
        history = read_history(store, kinds, gpus=True)
        return planned_jobs(plans, history, seconds=seconds, vram=vram)


def _teller(jobs: int, processes: int) -> Callable[[str], None]:
    """Return what tells someone who waits which policy is replayed, or has been where several are at once."""
    doing = "replaying" if processes == 1 else "replayed"

    def tell(policy: str) -> None:
        if sys.stderr.isatty():
            remark(f"{doing} {counted(jobs, 'job')}: {policy}")

    return tell


def _drawing(text: str) -> Callable[[str, Study], None]:
    """Return what draws a study's picture there.

    Raises:
        UsageError: it cannot be written there; checked before a long replay.
        MachineError: what draws is not installed.
    """
    path = Path(text)
    if path.suffix.lower() != ".svg":
        raise UsageError(f"the timeline is drawn as SVG: name it {path.with_suffix('.svg')}")
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(
            f"cannot write {str(path)!r}: there is no such folder, or it is one; "
            "name a file in a folder that exists"
        )
    try:
        # matplotlib is an extra, and takes longer to import than most replays
        picture = importlib.import_module("launcher.simulate.picture")
    except ImportError as error:
        raise MachineError(f"--timeline needs {error.name}: {install_command('plots')}") from error
    return lambda name, done: write_atomic(path, picture.draw_timeline(name, done))
