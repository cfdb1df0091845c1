"""The command `python -m launcher.code_snapshot`, for the authors of a plugin package."""

from collections.abc import Collection
from pathlib import Path

import click

from launcher.errors import UsageError
from launcher.system.code_digests import CodeIndex
from launcher.system.code_snapshot import (
    PROMISE_FILE,
    SNAPSHOT_FILE,
    PromisedModule,
    promised_module,
    promised_modules,
    write_promise,
    write_snapshot,
)

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
@click.option("--replace", is_flag=True, help="Replace the old code; all its jobs run again.")
def take(package: str, *, replace: bool) -> None:
    """Store the present code of PACKAGE as the old code."""
    index = CodeIndex()
    folder = _folder(index, package)
    if (folder / SNAPSHOT_FILE).exists() and not replace:
        raise click.ClickException(
            f"{folder / SNAPSHOT_FILE} exists. Run `{PROGRAM} promise {package}`, or add --replace: jobs that "
            "were done with its code then run again after a restructuring."
        )
    write_snapshot(folder, index.modules, package)
    write_promise(folder, present_promise(index, package), ())
    click.echo(f"wrote {SNAPSHOT_FILE} and {PROMISE_FILE} to {folder}")


@main.command()
@click.argument("package")
@click.option(
    "--except",
    "exceptions",
    metavar="NAME",
    multiple=True,
    help="Module or definition (module.name) whose results differ. Repeatable; later promises keep it.",
)
def promise(package: str, exceptions: tuple[str, ...]) -> None:
    """State that the present code of PACKAGE gives the results of the old code."""
    index = CodeIndex()
    folder = _folder(index, package)
    snapshot = index.snapshot(package)
    if snapshot is None:
        raise click.ClickException(f"{package} has no snapshot. Run `{PROGRAM} take {package}`.")
    excepted = sorted({*snapshot.exceptions, *exceptions})
    modules = present_promise(index, package, excepted)
    names = {*modules, *_definitions(modules)}
    if missing := [name for name in excepted if name not in names]:
        raise click.ClickException(
            f"{package} has no {missing[0]}. Write its present name into the list `except` of "
            f"{folder / PROMISE_FILE}, or remove it there if nothing of it is left."
        )
    write_promise(folder, modules, excepted)
    click.echo(f"wrote {PROMISE_FILE} to {folder}")


@main.command()
@click.argument("package")
def check(package: str) -> None:
    """List what in PACKAGE is not as promised. Exit with 1 if there is something."""
    if changes := unpromised(CodeIndex(), package):
        click.echo("\n".join(changes))
        raise click.exceptions.Exit(1)


def present_promise(
    index: CodeIndex, package: str, exceptions: Collection[str] = ()
) -> dict[str, PromisedModule]:
    """Return the promise for the present code of a package."""
    disk = index.modules
    return {
        module: promised_module(disk, index.graph, module, exceptions)
        for module in promised_modules(disk, package)
    }


def unpromised(index: CodeIndex, package: str) -> list[str]:
    """Return the names of modules and definitions that differ from the promise of a package.

    Raises:
        UsageError: the package has no snapshot.
    """
    snapshot = index.snapshot(package)
    if snapshot is None:
        raise UsageError(f"{package} has no snapshot. Run `{PROGRAM} take {package}`.")
    now, then = present_promise(index, package, snapshot.exceptions), snapshot.promise
    names: set[str] = {*(now.keys() ^ then.keys())}
    for module in now.keys() & then.keys():
        changes = now[module].changes_to(then[module])
        names |= {".".join((module, *each.names[:1])) for each in changes.elements}
        names |= {module} if changes.imports or changes.effects else set()
    return sorted(names)


def _definitions(modules: dict[str, PromisedModule]) -> set[str]:
    return {
        f"{module}.{name}"
        for module, promised in modules.items()
        for element in promised.elements
        for name in element.names
    }


def _folder(index: CodeIndex, package: str) -> Path:
    """Return the folder of a top-level package.

    Raises:
        click.ClickException: there is no such package.
    """
    if not index.modules.is_package(package) or "." in package:
        raise click.ClickException(f"{package} is not a top-level package that can be imported.")
    return index.modules.places(package)[0]


if __name__ == "__main__":
    main(prog_name=PROGRAM)
