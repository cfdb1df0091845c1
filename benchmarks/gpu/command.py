"""The command: measure what only a GPU can tell, and write gpu-report.json and gpu-report.md.

Without a GPU nothing is measured, and the exit code is 0. With one, it is 1 if a part failed.
"""

import contextlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from benchmarks.gpu.__main__ import NOT_MEASURED
from benchmarks.gpu.bench import ROOT, Bench
from benchmarks.gpu.installation import absence, provide_entry_points, torch_facts
from benchmarks.gpu.parts import LIGHT, PARTS, Part
from benchmarks.gpu.report import Report, Value
from benchmarks.gpu.runner import run_all
from benchmarks.gpu.simulated import simulated
from benchmarks.measured import record, rows_measured_by
from launcher.system.locks import lock_file

MEANINGLESS = "rehearsal on the CPU: its figures mean nothing, and no report is written"
SECONDS = 520.0  # in all: under nine minutes, with the end of the last part
H100_MEMORY = " 80GB HBM3"  # the end of its name in NVML
SHARED = (ROOT.parent / "shared", ROOT / "shared")


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--seconds", type=click.FloatRange(min=1), default=SECONDS, show_default=True)
@click.option("--shared", type=click.Path(path_type=Path), help="Folder that holds data/cifar10.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep logs and other files here.")
@click.option("--provoke-xid", is_flag=True, help="Let a program of ours fault, which logs an Xid.")
@click.option("--rehearse", is_flag=True, help="Run the parts on the CPU, in tiny.")
def main(
    parts: Sequence[str],
    seconds: float,
    shared: Path | None,
    out: Path,
    keep: Path | None,
    *,
    provoke_xid: bool,
    rehearse: bool,
) -> None:
    """Measure PARTS, or all that fit into nine minutes, in the order of their value.

    The parts "variants" and "filling" run only if they are named.
    """
    until = time.monotonic() + seconds
    reason = "" if rehearse else absence()
    if reason:
        print(f"{NOT_MEASURED}: {reason}")
        return
    with _scratch(keep) as folder:
        provide_entry_points(folder)
        bench = Bench(
            folder=str(folder),
            until=until,
            shared=str((shared or _shared()).resolve()),
            provoke_xid=provoke_xid,
        )
        usual = tuple(name for name, part in PARTS.items() if not part.on_request)
        names = parts or (LIGHT if rehearse else usual)
        chosen = {name: part for name, part in PARTS.items() if name in names}
        failed = _rehearsed(chosen, bench) if rehearse else _measured(chosen, bench, out)
    sys.exit(1 if failed else 0)


def _measured(parts: Mapping[str, Part], bench: Bench, out: Path) -> bool:
    """Measure all parts, update the report after each one, and return whether one failed."""
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as NVML counts
    facts = torch_facts()
    if not facts["cuda"]:
        print(
            f"{NOT_MEASURED}: torch {facts['torch']} cannot use the GPU; install a build for CUDA"
        )
        return True
    out.mkdir(parents=True, exist_ok=True)
    if lock_file(out / "gpu-report.lock") is None:
        print(f"another measurement writes to {out}; wait for it: two at once measure each other")
        return True
    report = Report(machine=_machine(facts), known=rows_measured_by("gpu"))
    unwritten = ""

    def after_each() -> None:
        nonlocal unwritten
        try:
            report.write(out / "gpu-report.json", out / "gpu-report.md")
            unwritten = ""
        except OSError as error:  # the measurements are printed anyway
            unwritten = str(error)

    run_all(parts, bench, report, after_each)
    print(report.markdown())
    name = str(facts.get("GPU")).removesuffix(H100_MEMORY)
    card = f"an {name} with {facts['cores']} CPU cores"
    for file in ("gpu", "filling"):
        record(file, report.values(only=file), machine=card)
    names = f"{out}/gpu-report.json and gpu-report.md"
    print(f"cannot write {names}: {unwritten}" if unwritten else f"written: {names}")
    return report.failed or bool(unwritten)


def _rehearsed(parts: Mapping[str, Part], bench: Bench) -> bool:
    print(MEANINGLESS)
    with simulated(bench) as pretended:
        report = Report(machine={"rehearsal": True})
        run_all(parts, pretended, report, lambda: None)
    print(report.markdown())
    print(MEANINGLESS)
    return report.failed


def _machine(facts: Mapping[str, Value]) -> dict[str, Value]:
    return {**facts, "Python": platform.python_version(), "Linux": platform.release()}


def _shared() -> Path:
    """Return the folder of real images; where there is none, the parts that need it are skipped."""
    return next((path for path in SHARED if path.is_dir()), SHARED[0])


@contextlib.contextmanager
def _scratch(keep: Path | None) -> Iterator[Path]:
    """Return an empty folder, which is deleted at the end unless it is to be kept."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield Path(tempfile.mkdtemp(prefix="gpu-", dir=keep)).resolve()
        return
    with tempfile.TemporaryDirectory(prefix="gpu-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()
