"""`launcher doctor`: what is wrong with this machine for jobs, and what to do about it."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import click

from launcher.backends.settings import configured_backends
from launcher.cli.doctor.checks import check
from launcher.cli.doctor.facts import Verdict, draw
from launcher.cli.doctor.gather import gather
from launcher.cli.main import VERBS, cli
from launcher.cli.option_defaults import defaults
from launcher.errors import MachineError, UsageError
from launcher.notify.settings import configured_notify
from launcher.screens.format import tabbed
from launcher.screens.terminal import say, speaks_unicode, width
from launcher.system.config import Fault, Options, read_configuration


@click.command()
@click.option(
    "--deep", is_flag=True, help="Also compute something with torch on a GPU; takes longer."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
def command(deep: bool, as_json: bool) -> int:
    """Check driver, torch, GPUs, disks, limits and the queue; change nothing.

    Each check ends with ok, warning, trouble or unknown, and says what to do. In a pipe: name,
    verdict, finding and remedy, separated by tabs. The exit code is 3 if there is trouble.

    \b
    Examples:
      launcher doctor
      launcher doctor --deep
      launcher doctor --json
    """
    facts = gather(os.environ, unicode=speaks_unicode(os.environ), deep=deep)
    findings = check(replace(facts, faults=_faults(os.environ) or facts.faults))
    if as_json:
        report = {"schema": 1, "findings": [finding.record() for finding in findings]}
        click.echo(json.dumps(report))
    elif sys.stdout.isatty():
        say(draw(findings, width()))
    else:
        click.echo(tabbed(finding.columns() for finding in findings))
    sick = any(finding.verdict is Verdict.TROUBLE for finding in findings)
    return MachineError.exit_code if sick else 0


def _faults(environ: Mapping[str, str]) -> str:
    """Return all that is wrong with the user's file, '' where all is well."""
    faults = []
    for read in (
        partial(read_configuration, environ, VERBS, _option_faults),
        partial(configured_backends, environ),
        partial(configured_notify, environ),
    ):
        try:
            read()
        except UsageError as error:
            faults.append(" ".join(str(error).split()))
    return "; ".join(dict.fromkeys(faults))


def _option_faults(options: Mapping[str, Options]) -> list[Fault]:
    """Return what is wrong with the options of verbs."""
    context = click.Context(cli)
    faults: list[Fault] = []
    for name, table in options.items():
        verb = cli.get_command(context, name)
        if verb is not None:
            defaults(verb, (name,), table, faults)
    return faults
