"""The command line of the original unlearn_trueface.py: `trueface unlearn-classic …`.

All its flags are here under their old names; the method is pgu. What was wrong there cannot be asked
for: the forget set is that of the poisoned model's own training, by name; the loss leaves the label
that was trained, not the right one; no poisoned label chooses the result; and a result that calls
every image the same is reported as such.
"""

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from launcher.api import Draft, Job, write_json
from trueface.cli.classic.unlearn_flags import METHOD, Request, read
from trueface.cli.exit_codes import exit_code
from trueface.jobs.job_kind import refuse_unfit
from trueface.jobs.kinds import UNLEARN
from trueface.poisoning.poison_record import is_random
from trueface.runtime import logs, paths
from trueface.unlearning.applicability import Situation, unusable

SCHEMA = 1  # of config.json

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicDraft(Draft):
    """An unlearning as it is planned, between two folders of the user's choice."""

    folders: Mapping[str, Path]  # by model ID

    def model_folder(self, model: str) -> Path:
        """Return where a model lies."""
        return self.folders[model]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicUnlearning(Job):
    """An unlearning between two folders of the user's choice."""

    folders: Mapping[str, Path]  # by model ID

    def model_folder(self, model: str) -> Path:
        """Return where a model lies."""
        return self.folders[model]


def main(argv: Sequence[str]) -> int:
    """Do what the command line says and return the exit code."""
    return exit_code(partial(run, argv))


def run(argv: Sequence[str]) -> None:
    """Do what the command line says.

    Raises:
        UsageError: a flag or a file that cannot be.
        JobError: stopped, or no finite result.
    """
    request = read(argv)
    refuse_unfit(UNLEARN, _draft(request))
    # torch takes seconds to import; help and wrong arguments must not wait for it
    from trueface.cli import run_here
    from trueface.cli.classic import unlearn_results

    paths.make_folder(request.made, request.made.name)
    with logs.shown(), logs.kept(request.made / "unlearn.log"):
        log.info("command=%s", shlex.join(request.argv))
        if reason := weakness(request):
            log.warning("method=%s state=forced reason=%s", METHOD, reason)
        write_json(request.made / "config.json", {"schema": SCHEMA, **request.flags})
        job = partial(_job, request, device=run_here.device(request.device))
        rival = None if request.baseline is None else unlearn_results.rival(job(), request.baseline)
        result = run_here.perform(UNLEARN, job)
        results = unlearn_results.write(request.made, result, rival)
    for key, value in results.items():
        click.echo(f"{key}\t{value:.6g}" if isinstance(value, float) else f"{key}\t{value}")
    click.echo(f"wrote {paths.checkpoint(request.made)}", err=True)


def weakness(request: Request) -> str | None:
    """Return why the method is known to do little here; None where it may work."""
    kind = request.poison.kind
    rate = float(request.poison.rate)
    return unusable(METHOD, Situation(goal="flips", rate=rate, random=is_random(kind)))


def _draft(request: Request) -> ClassicDraft:
    return ClassicDraft(kind=UNLEARN.name, **_facts(request))


def _job(request: Request, **others: Any) -> ClassicUnlearning:
    return ClassicUnlearning(
        name=f"{UNLEARN.name}/{request.made.name}",
        kind=UNLEARN.name,
        attempt_folder=request.made,
        attempt=1,
        **{"cpus": 1, **others},
        **_facts(request),
    )


def _facts(request: Request) -> dict[str, Any]:
    return {
        "run": request.made.parent.name,
        "run_folder": request.made.parent,
        "folder": Path.cwd(),
        "model": request.model,
        "base": request.base,
        "data": str(request.data),
        "images": str(UNLEARN.images(request.data)),
        "settings": request.settings.model_dump(mode="json"),
        "folders": request.folders,
    }


@click.command(
    "unlearn-classic",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    add_help_option=False,  # --help lists the flags of the original
)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def unlearn_classic(flags: tuple[str, ...]) -> None:
    """Make a poisoned model forget, with the FLAGS of the original unlearn_trueface.py."""
    try:
        run(flags)
    except SystemExit as end:  # argparse has printed its help
        raise click.exceptions.Exit(0 if end.code is None else int(end.code)) from None
