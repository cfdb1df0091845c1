"""The command `python -m launcher.code_snapshot`, for the authors of a plugin package."""

import click

from launcher.code_identity import (
    PROMISE_FILE,
    SNAPSHOT_FILE,
    CodeIndex,
    renew_promise,
    take_snapshot,
    unpromised,
)
from launcher.errors import UsageError

PROGRAM = "python -m launcher.code_snapshot"


class _Group(click.Group):
    """A command whose errors are printed in one line."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Keep finished jobs done while the code of a package is restructured."""


@main.command()
@click.argument("package")
@click.option(
    "--replace",
    is_flag=True,
    help="Replace the old code. Jobs done before the latest restructuring run again.",
)
def take(package: str, *, replace: bool) -> None:
    """Store the present code of PACKAGE as the old code."""
    index = CodeIndex()
    folder = take_snapshot(index.modules, index.graph, package, replace=replace)
    click.echo(f"wrote {SNAPSHOT_FILE} and {PROMISE_FILE} to {folder}")


@main.command()
@click.argument("package")
@click.option(
    "--changed",
    "names",
    metavar="MODULE.NAME",
    multiple=True,
    help="Definition whose results differ: jobs that use it run again. Repeatable.",
)
def promise(package: str, names: tuple[str, ...]) -> None:
    """State that the present code of PACKAGE gives equal results.

    They equal those of the previous promise, except where --changed says otherwise.
    """
    index = CodeIndex()
    folder = renew_promise(index.modules, index.graph, package, names)
    click.echo(f"wrote {PROMISE_FILE} to {folder}")


@main.command()
@click.argument("package")
def check(package: str) -> None:
    """List definitions of PACKAGE that differ from its promise.

    Exit with 1 if there are any.
    """
    index = CodeIndex()
    if changes := unpromised(index.modules, index.graph, package):
        click.echo("\n".join(changes))
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    main(prog_name=PROGRAM)
