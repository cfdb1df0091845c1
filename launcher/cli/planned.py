"""The listing of `launcher run --dry-run`: what would run, in which order, after what, and why."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from launcher.errors import Problem
from launcher.plan import Plan, PlannedJob
from launcher.records import Json
from launcher.submission import Action, Standing
from launcher.views import columns, harmless

MOST_LISTED = 40  # jobs; `--all` lists every one
MOST_AFTER = 2  # needs named in a line


def draw_plan(
    plan: Plan, standings: Sequence[Standing], *, taskfile: str, everything: bool = False
) -> str:
    """Return the listing as text.

    Args:
        plan: the plan.
        standings: each of its jobs beside what the queue knows of it, in the plan's order.
        taskfile: the path to show, and to paste.
        everything: list every job, however many.
    """
    about = f": {harmless(plan.about)}" if plan.about else ""
    blocks = [f"{harmless(taskfile)}   {plan.name}{about}"]
    blocks.append("\n".join(f"  {line}" for line in _table(standings)))
    blocks.append("\n".join(f"  {line}" for line in _lines(standings, everything=everything)))
    blocks += [str(warning) for warning in plan.warnings]
    blocks.append(_last_line(plan, standings, taskfile))
    return "\n\n".join(blocks)


def plan_json(plan: Plan, standings: Sequence[Standing]) -> dict[str, Json]:
    """Return the whole plan as JSON (schema 1)."""
    return {
        "schema": 1,
        "file": plan.file,
        "run": plan.name,
        "about": plan.about,
        "run_folder": str(plan.run_folder),
        "jobs": [_job_record(one) for one in standings],
        "warnings": [_problem_record(one) for one in plan.warnings],
    }


def _table(standings: Iterable[Standing]) -> list[str]:
    """Return one line for each kind, and the sum."""
    kinds: dict[str, list[Standing]] = {}
    for one in standings:
        kinds.setdefault(one.job.kind, []).append(one)
    rows = [("KIND", "JOBS", "TO RUN", "DONE", "WHY")]
    rows += [(name, *_counts(of_kind), _why(of_kind)) for name, of_kind in kinds.items()]
    if len(kinds) > 1:
        rows.append(("all", *_counts([one for group in kinds.values() for one in group]), ""))
    return columns(rows, right=frozenset({1, 2, 3}))


def _counts(standings: Sequence[Standing]) -> tuple[str, str, str]:
    run = sum(one.action is not Action.CACHED for one in standings)
    return str(len(standings)), str(run), str(len(standings) - run or "-")


def _why(standings: Iterable[Standing]) -> str:
    states = Counter(one.state for one in standings)
    return ", ".join(state if len(states) == 1 else f"{state} {n}" for state, n in states.items())


def _lines(standings: Sequence[Standing], *, everything: bool) -> Iterator[str]:
    """Give one line for each job: name, real data that was added, why, and after what."""
    shown = standings if everything or len(standings) <= MOST_LISTED else standings[:MOST_LISTED]
    jobs = {one.job.name: one.job for one in standings}
    rows = [
        (one.job.name, _added(one.job), harmless(one.reason), _after(one.job, jobs))
        for one in shown
    ]
    yield from columns(rows)
    if len(shown) < len(standings):
        yield f"… {len(standings) - len(shown)} more; --all lists every job, --json gives the plan"


def _added(job: PlannedJob) -> str:
    """Tell which data a kind added to those that were written."""
    if job.images is None or job.data is None or job.images == job.data:
        return ""
    written = job.data.split("&")
    added = [part for part in job.images.split("&") if part not in written]
    return f"+ {'&'.join(added)}" if added else ""


def _after(job: PlannedJob, jobs: Mapping[str, PlannedJob]) -> str:
    """Name the needs, but for those that another need has too."""
    implied = {far for need in job.needs for far in jobs[need].needs}
    direct = [need for need in job.needs if need not in implied]
    if not direct:
        return ""
    more = f" and {len(direct) - MOST_AFTER} more" if len(direct) > MOST_AFTER else ""
    return f"after {', '.join(direct[:MOST_AFTER])}{more}"


def _last_line(plan: Plan, standings: Iterable[Standing], taskfile: str) -> str:
    if plan.missing:
        return (
            "nothing was queued (dry run). Inputs are missing: launcher run would refuse this file"
        )
    if all(one.action is Action.CACHED for one in standings):
        return "nothing was queued (dry run), and nothing has to run"
    return f"nothing was queued (dry run). To start: launcher run {harmless(taskfile)}"


def _job_record(standing: Standing) -> dict[str, Json]:
    job = standing.job
    settings: Mapping[str, Json] = job.settings
    return {
        "name": job.name,
        "kind": job.kind,
        "role": job.role,
        "model": job.model,
        "base": job.base,
        "data": job.data,
        "images": job.images,
        "settings": dict(settings),
        "needs": list(job.needs),
        "state": standing.state,
        "reason": standing.reason,
        "argv": list(job.argv),
        "outputs": [str(path) for path in job.outputs],
        "resources": {
            "cpus": job.resources.cpus,
            "min_vram": job.resources.min_vram,
            "device": job.resources.device,
            "priority": job.resources.priority,
            "ram": job.resources.ram,
            "rerun": job.resources.rerun,
            "retries": job.resources.retries,
            "time_limit_s": job.resources.time_limit_s,
        },
        "hash": job.hash,
    }


def _problem_record(problem: Problem) -> dict[str, Json]:
    place = problem.place
    return {
        "code": problem.code,
        "severity": problem.severity,
        "message": problem.message,
        "file": None if place is None else place.file,
        "line": None if place is None else place.line,
        "column": None if place is None else place.column,
        "hint": problem.hint,
        "notes": list(problem.notes),
    }
