"""`launcher clean --features`: delete what kinds keep of work that jobs share."""

import click

from launcher.cli.prompts import NOTHING_CHANGED, ask
from launcher.errors import UsageError, counted
from launcher.kind_interface import KeepsWork, Kept
from launcher.kinds import find_kinds
from launcher.screens.format import harmless
from launcher.units import format_bytes


def clean_features(unused_s: float, *, yes: bool, dry_run: bool) -> None:
    """Delete what was not used for so many seconds; jobs compute it again where they need it.

    Args:
        unused_s: since it was last used.
        yes: do not ask.
        dry_run: print what would go, and delete nothing.

    Raises:
        UsageError: no installed kind keeps anything; or nobody can be asked.
        MachineError: something cannot be deleted.
    """
    keepers = [kind for kind in find_kinds().kinds.values() if isinstance(kind, KeepsWork)]
    if not keepers:
        raise UsageError("no installed kind keeps features; `launcher kinds` lists the kinds")
    for keeper in keepers:
        _clean(keeper, unused_s, yes=yes, dry_run=dry_run)


def _clean(keeper: KeepsWork, unused_s: float, *, yes: bool, dry_run: bool) -> None:
    kept = keeper.kept(unused_s=unused_s)
    if not kept.files:
        click.echo("nothing to clean", err=True)
        return
    if dry_run:
        click.echo(f"would delete {_named(kept)}")
        click.echo(f"{NOTHING_CHANGED} (dry run)", err=True)
        return
    if not yes:
        ask([], f"delete {_named(kept)}?", needed=True)
    gone = keeper.clear(unused_s=unused_s)
    click.echo(f"{_files(gone)} cleaned, {format_bytes(gone.size)} freed", err=True)
    if gone.files < kept.files:
        left = counted(kept.files - gone.files, "file")
        click.echo(f"left: {left} in {harmless(kept.folder)} that a job is writing", err=True)


def _named(kept: Kept) -> str:
    return f"{_files(kept)} in {harmless(kept.folder)}, {format_bytes(kept.size)}"


def _files(kept: Kept) -> str:
    return counted(kept.files, "feature file")
