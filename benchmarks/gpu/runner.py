"""Runs the parts one after another, each within its own limit and all within one deadline."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.gpu.bench import ROOT, VERDICT, Bench, rows_in
from benchmarks.gpu.parts import Part
from benchmarks.gpu.report import Report, Result, State
from launcher.system.process_trees import adopt_orphans, descendants, send_signal

LOG = "log"
TAIL = 15  # lines of a failed part's log that are printed
GRACE_S = 3.0  # for a part to end after SIGTERM


def skipped_at_once(parts: Mapping[str, Part], bench: Bench) -> dict[str, str]:
    """Return the parts that cannot run here, with the reason."""
    return {name: why for name, part in parts.items() if (why := part.needs(bench))}


def run_all(
    parts: Mapping[str, Part], bench: Bench, report: Report, after_each: Callable[[], None]
) -> None:
    """Run parts, and add how each went to the report.

    Args:
        parts: by name, in this order.
        bench: whose folder gets a folder for each part, and whose deadline holds for all.
        report: gets the results.
        after_each: called when a result was added.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    adopt_orphans()  # a scheduler or daemon that a part started does not outlive it
    unable = skipped_at_once(parts, bench)
    for name, why in unable.items():
        print(f"skipped  {name}: {why}", flush=True)
    for name, part in parts.items():
        why = unable.get(name) or _too_late(part, bench)
        if why:
            result = Result(part=name, title=part.title, state=State.SKIPPED, why=why)
            if name not in unable:
                print(f"skipped  {name}: {why}", flush=True)
        else:
            print(f"running  {name}: {part.title}", flush=True)
            result = _run(name, part, bench)
            print(f"{result.state:8} {name}: {result.seconds:.0f} s {result.why}", flush=True)
        report.results.append(result)
        after_each()


def _too_late(part: Part, bench: Bench) -> str:
    if bench.left_s >= part.usual_s / 2:
        return ""
    return f"{max(0.0, bench.left_s):.0f} s are left, and it usually takes {part.usual_s:.0f} s"


def _run(name: str, part: Part, bench: Bench) -> Result:
    # a rehearsal runs on a CPU, whose speed says nothing about the limit
    own = bench.for_part(name, bench.left_s if bench.rehearsal else part.limit_s)
    began = time.monotonic()
    with (own.path / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.child", part.module, own.record()],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            late = _wait(process, own)
        finally:
            end_descendants()
    state, why = (
        (State.FAILED, f"ended after {time.monotonic() - began:.0f} s")
        if late
        else _verdict(own.path)
    )
    result = Result(
        part=name,
        title=part.title,
        state=state,
        why=why,
        seconds=time.monotonic() - began,
        rows=rows_in(own.path),
    )
    return _judged(result, own.path)


def _wait(process: subprocess.Popen[bytes], bench: Bench) -> bool:
    """Wait for a part; return whether it had to be ended."""
    try:
        process.wait(max(0.0, bench.left_s))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        return True
    return False


def _judged(result: Result, folder: Path) -> Result:
    """Count a part with an expectation that does not hold as failed; print what explains it."""
    if result.state is State.FAILED:
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        print("\n".join(f"    {line}" for line in lines[-TAIL:]), flush=True)
    if result.state is not State.DONE or not result.refuted:
        return result
    why = "not as expected: " + "; ".join(row.what for row in result.refuted)
    return Result(
        part=result.part,
        title=result.title,
        state=State.FAILED,
        why=why,
        seconds=result.seconds,
        rows=result.rows,
    )


def _verdict(folder: Path) -> tuple[State, str]:
    try:
        verdict = json.loads((folder / VERDICT).read_text(encoding="utf-8"))
        return State(verdict["state"]), verdict["why"]
    except (OSError, ValueError, KeyError):
        return State.FAILED, f"its process died; its log is {folder / LOG}"


def end_descendants() -> None:
    """Kill all that descends from this process, and what that leaves, until nothing is left."""
    for _ in range(200):
        pids = descendants(os.getpid())
        for pid in pids:
            send_signal(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not pids:
            return
        time.sleep(0.02)
