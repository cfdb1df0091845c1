"""A plan as other programs get it: JSON, or a command line for each job."""

from collections.abc import Iterable, Mapping, Sequence

from launcher.experiments.kind_interface import Role
from launcher.experiments.planning.comparison import Action, ComparedJob
from launcher.experiments.planning.estimates import JobEstimate
from launcher.experiments.planning.plan import Plan, PlannedJob, SharedWorkSavings
from launcher.experiments.planning.preview import Preview
from launcher.provenance.git import WorkTree
from launcher.queue.jobs.context import program_words
from launcher.queue.jobs.job import Terms
from launcher.system.errors import Problem
from launcher.system.files import Json
from launcher.system.text import shell_line

_FIRST_FIELDS = ("name", "kind", "role", "model", "base", "data", "images")
# as they were called in a job's record from the beginning
_RESOURCE_FIELDS = ("cpus", "vram", "device", "exclusive", "ram", "gpu_ids")
_TERM_FIELDS = (
    "rerun", "retries", "time_limit_s", "group", "not_before", "backoff_s", "warn_s", "grace_s", "stderr",
)  # fmt: skip
# terms that are null unless they are given: those of all later options
_LATER_TERMS = {
    name: usual
    for name, usual in Terms()._asdict().items()
    if name not in {*_TERM_FIELDS, "warn_signal", "on"}
}


def plan_json(
    plan: Plan,
    compared_jobs: Sequence[ComparedJob],
    preview: Preview,
    tree: WorkTree | None = None,
    *,
    refusals: Sequence[str] = (),
    savings: Sequence[SharedWorkSavings] = (),
) -> dict[str, Json]:
    """Return the whole plan as JSON (schema 1).

    Args:
        plan: the plan.
        compared_jobs: its jobs, compared with the queue.
        preview: what is expected of them.
        tree: the working tree, if there is one.
        refusals: the reasons for which `run` would refuse it.
        savings: savings by jobs that do shared work.
    """
    return {
        "schema": 1,
        "file": plan.file,
        "run": plan.name,
        "about": plan.about,
        "share": plan.share,
        "notify": plan.notify.to_json(),
        "run_folder": str(plan.run_folder),
        "git": None if tree is None else tree._asdict(),
        "jobs": [
            _job_record(compared, estimate)
            for compared, estimate in zip(compared_jobs, preview.estimates, strict=True)
        ],
        "refused": bool(refusals),
        "refusals": list(refusals),
        **preview.to_json(),
        "shared_work": [each.to_json() for each in savings],
        "warnings": [_problem_record(warning) for warning in plan.warnings],
    }


def plan_commands(compared_jobs: Iterable[ComparedJob]) -> list[str]:
    """Return a command line for each job that would run, in their order, a line each.

    Work that several jobs share is done by the first of them.
    """
    return [
        shell_line(_words(compared.job))
        for compared in compared_jobs
        if compared.action is Action.RUN and compared.job.role is not Role.SHARED
    ]


def _words(job: PlannedJob) -> Sequence[str]:
    return job.argv if job.entry else program_words(job.settings, job.argv)


def _job_record(compared_job: ComparedJob, estimate: JobEstimate) -> dict[str, Json]:
    job, resources, terms = compared_job.job, compared_job.job.resources, compared_job.job.terms
    settings: Mapping[str, Json] = job.settings
    return {
        **{name: getattr(job, name) for name in _FIRST_FIELDS},
        "words": job.words.to_json(),
        "settings": dict(settings),
        "needs": list(job.needs),
        "after_any": list(compared_job.after_any),
        "state": compared_job.state,
        "reason": compared_job.reason,
        "changes": list(compared_job.changes),
        "other_code": compared_job.is_other_code,
        "other_options": list(compared_job.options),
        "estimate": estimate.to_json(),
        "argv": list(job.argv),
        "inputs": [str(path) for path in job.inputs],
        "outputs": [str(path) for path in job.outputs],
        "resources": {
            **{name: getattr(resources, name) for name in _RESOURCE_FIELDS},
            "gpus": job.gpus,
            "priority": job.priority,
            **{name: getattr(terms, name) for name in _TERM_FIELDS},
            "signal": terms.warn_signal,
            "on": list(terms.on),
            # the others, null if they are not given
            **{
                name: _choose_given(getattr(terms, name), usual)
                for name, usual in _LATER_TERMS.items()
            },
        },
        "hash": job.hash,
    }


def _choose_given(value: Json, usual: Json) -> Json:
    return None if value == usual else value


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
