"""`launcher simulate FILE`: simulate how the scheduler would run a trace or task file on any machine."""

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import click

from launcher.experiments.planning.estimates import read_history
from launcher.experiments.planning.load import plan_files
from launcher.frontends.cli.complete import offer_files
from launcher.frontends.cli.help_pages import launcher_command
from launcher.frontends.cli.option_types import (
    SIZE,
    ValueParamType,
    flag,
    json_option,
    real_number,
    span,
    whole_number,
)
from launcher.frontends.screens.command_output import print_json
from launcher.frontends.simulate.baselines import Assumptions, Study, draw_study, run_study
from launcher.frontends.simulate.machine import SimulatedCluster, parse_cluster, select_feasible
from launcher.frontends.simulate.memory_claims import MEMORY_SIZES_TEXT, draw_memory
from launcher.frontends.simulate.planned_jobs import PlannedTrace, trace_from_plans
from launcher.frontends.simulate.queue import MemoryKnowledge, RuntimeKnowledge
from launcher.frontends.simulate.trace import TraceJob, read_trace, select_jobs
from launcher.queue.home.paths import find_home
from launcher.queue.store.client import open_queue
from launcher.system.errors import MachineError, UsageError, pluralize
from launcher.system.files import write_atomic
from launcher.system.installation import install_command
from launcher.system.processes import usable_cores
from launcher.system.terminal import print_stderr, terminal_width
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_bytes

DURATION_S, VRAM = 3600.0, 8 * 1024**3  # values of a planned job about which nothing is known
MANY_JOBS = 5000  # with fewer jobs, all policies are replayed before other processes are there
SECTIONS = {
    "Workload": ("gpus", "jobs", "load", "all-at-once", "users", "others", "duration"),
    "GPU memory": ("vram", "seed", "memory", "reserve", "baseline"),
    "Model": ("slowdown", "max-per-gpu", "forecast"),
    "Output": ("timeline", "json"),
}
_TASKFILES = (".yaml", ".yml")


@launcher_command(
    sections=SECTIONS,
    heading="Queue and machine",
    place=80,
    summary="Replay a workload on simulated GPUs.",
)
@click.argument("file", metavar="FILE", shell_complete=offer_files)
@click.option(
    "--gpus",
    "fleet",
    type=ValueParamType("gpus", parse_cluster),
    required=True,
    metavar="NxSIZE",
    help="GPUs, such as 8x24GiB or 2x80GiB+6x24GiB; for several machines, 4x(2x24GiB).",
)
@click.option("--jobs", type=whole_number(1), help="Replay only the first jobs, this many.")
@flag("--all-at-once", help="Submit all jobs at the start.")
@click.option(
    "--load",
    type=real_number(0.01, 100),
    default="1",
    show_default=True,
    help="Factor on the arrival rate of the jobs.",
)
@click.option(
    "--slowdown",
    type=real_number(1, 10),
    default="1.3",
    show_default=True,
    help="Factor on the time of each of two jobs that share a GPU; for n jobs, its (n-1)th power.",
)
@click.option(
    "--max-per-gpu",
    "most",
    type=whole_number(1, 64),
    default=2,
    show_default=True,
    help="Most jobs that share a GPU.",
)
@click.option(
    "--forecast",
    "foresight",
    type=click.Choice([foresight.value for foresight in RuntimeKnowledge]),
    default=RuntimeKnowledge.LEARNED.value,
    show_default=True,
    help="Durations that the policy knows: exact, learned from ended jobs, or none.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of the random VRAM requests.",
)
@click.option("--vram", type=SIZE, help="VRAM request of every job that has none.")
@click.option(
    "--memory",
    "knows",
    type=click.Choice([memory.value for memory in MemoryKnowledge]),
    default=MemoryKnowledge.KNOWN.value,
    show_default=True,
    help="VRAM requests that launcher knows: exact, or learned from ended jobs.",
)
@click.option(
    "--reserve",
    type=SIZE,
    default="0",
    show_default=True,
    help="VRAM of each GPU that is kept free for other users, as in config.toml.",
)
@click.option(
    "--baseline",
    type=SIZE,
    default="0",
    show_default=True,
    help="VRAM in use on each GPU when no job runs on it.",
)
@flag("--users", help="Give each user of the trace (column user) a separate queue.")
@click.option(
    "--others",
    metavar="TRACE",
    help="Trace of jobs of other users, which a plain FIFO scheduler starts on whole idle GPUs.",
)
@click.option(
    "--duration",
    type=span(),
    help="Duration of the jobs of a task file that never ran.  [default: 1h]",
)
@click.option("--timeline", metavar="FILE.svg", help="Also draw the jobs over time as SVG.")
@json_option
def command(
    file: str,
    fleet: SimulatedCluster,
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
    """Replay a workload on simulated GPUs. No job runs.

    FILE is a CSV trace (columns submit_s, duration_s, gpus, vc, …) or a task file, whose jobs take as long
    as in the past. The table compares the launcher policy with FIFO, shortest-job-first, EASY and first-fit,
    and with a lower bound of the makespan.

    If a job of a trace has no VRAM request, one is drawn at random. --vram sets one size instead. The sizes
    and their probabilities:

    2 GiB 10 %, 3 GiB 15 %, 4 GiB 20 %, 6 GiB 20 %, 8 GiB 15 %, 11 GiB 10 %, 16 GiB 6 %, 22 GiB 4 %

    Jobs that can never fit are dropped and counted. CPU cores and main memory are unlimited.

    \b
    Examples:
      launcher simulate jobs.csv --gpus 8x24GiB
      launcher simulate jobs.csv --gpus '4x(8x24GiB)+2x(4x80GiB)'
      launcher simulate tasks/night.yaml --gpus 2x80GiB --timeline night.svg
    """
    draw = None if timeline is None else _timeline_writer(timeline)
    fleet = fleet._replace(reserve=reserve, baseline=baseline)
    planned = Path(file).suffix.lower() in _TASKFILES
    durations = ""
    if planned:
        plan = _jobs_from_task_file(file, duration or DURATION_S, vram or VRAM)
        trace_jobs, durations = plan.jobs, plan.describe()
        memory, drawn = f"as declared or measured, otherwise {format_bytes(vram or VRAM)}", None
    else:
        trace_jobs, memory, drawn = _jobs_from_trace(file, duration, vram, seed, fleet)
    chosen = select_jobs(trace_jobs, first=jobs, all_at_once=all_at_once, load=load)
    workload = select_feasible(chosen, fleet)
    if not workload.jobs:
        raise UsageError(
            f"none of {pluralize(len(chosen), 'job')} fits on {fleet}. Use a larger --gpus."
        )
    if users and not any(job.user for job in workload.jobs):
        raise UsageError(f"--users: {file} has no column user. Add the column, or remove --users.")
    assumptions = Assumptions(
        fleet=fleet,
        slowdown=slowdown,
        most=most,
        foresight=RuntimeKnowledge(foresight),
        load=load,
        all_at_once=all_at_once,
        memory=memory,
        memory_knowledge=MemoryKnowledge(knows),
        users=users,
        others=() if others is None else select_feasible(read_trace(Path(others)), fleet).jobs,
        durations=durations,
        seed=drawn,
    )
    processes = usable_cores() if len(workload.jobs) >= MANY_JOBS else 1
    done = run_study(
        workload, assumptions, _progress_printer(len(workload.jobs), processes), processes=processes
    )
    name = sanitize_terminal(Path(file).name)
    if draw is not None:
        draw(name, done)
    if as_json:
        print_json(done.to_json())
    else:
        click.echo(draw_study(name, done, width=terminal_width()))


def _jobs_from_trace(
    file: str, duration: float | None, vram: int | None, seed: int, fleet: SimulatedCluster
) -> tuple[tuple[TraceJob, ...], str, int | None]:
    """Return a trace's jobs, a description of their requests, and the seed if the requests are drawn."""
    if duration is not None:
        raise UsageError(
            "--duration works only with task files, as a trace contains durations. Remove --duration."
        )
    trace_jobs = read_trace(Path(file))
    if all(job.vram is not None for job in trace_jobs):
        return trace_jobs, "as in the trace", None
    card = max(fleet.room)
    parts = any(job.share is not None and job.vram is None for job in trace_jobs)
    of_parts = "; for jobs with a fraction of a GPU this fraction of its memory" if parts else ""
    if vram is not None:
        drawn = draw_memory(trace_jobs, seed, fixed_bytes=vram, gpu_bytes=card)
        return drawn, format_bytes(vram) + of_parts, None
    drawn = draw_memory(trace_jobs, seed, gpu_bytes=card)
    return drawn, f"drawn with seed {seed}: {MEMORY_SIZES_TEXT}{of_parts}", seed


def _jobs_from_task_file(file: str, seconds: float, vram: int) -> PlannedTrace:
    """Return a task file's jobs; they take as long and claim as much as this queue has seen."""
    plans = plan_files([file])
    kinds = {job.kind: made.kinds[job.kind] for made in plans for job in made.jobs}
    home = find_home(os.environ)
    with open_queue() if home.exists() else nullcontext((home, None)) as (_, store):
        history = read_history(store, kinds, gpus=True)
        return trace_from_plans(plans, history, seconds=seconds, vram=vram)


def _progress_printer(jobs: int, processes: int) -> Callable[[str], None]:
    """Return a printer of the policy that is being replayed or, with several processes, was replayed."""
    doing = "replaying" if processes == 1 else "replayed"

    def print_progress(policy: str) -> None:
        if sys.stderr.isatty():
            print_stderr(f"{doing} {pluralize(jobs, 'job')}: {policy}")

    return print_progress


def _timeline_writer(text: str) -> Callable[[str, Study], None]:
    """Return what draws a study's picture there.

    Raises:
        UsageError: it cannot be written there; checked before a long replay.
        MachineError: what draws is not installed.
    """
    path = Path(text)
    if path.suffix.lower() != ".svg":
        raise UsageError(
            f"--timeline {path}: expected an SVG file. Write {path.with_suffix('.svg')}"
        )
    if path.is_dir() or not path.parent.is_dir():
        why = "is a folder" if path.is_dir() else f"cannot be written: no folder {path.parent}"
        raise UsageError(f"--timeline {path} {why}. Write a file in an existing folder.")
    try:
        # matplotlib is an extra, and takes longer to import than most replays
        picture = importlib.import_module("launcher.frontends.simulate.picture")
    except ImportError as error:
        raise MachineError(
            f"--timeline needs the package {error.name}. Install it: {install_command('plots')}"
        ) from error
    return lambda name, done: write_atomic(path, picture.draw_timeline(name, done))
