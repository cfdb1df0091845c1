"""The command `python -m launcher.code_snapshot`, for the authors of a plugin package."""

from pathlib import Path

import click

from launcher.errors import UsageError
from launcher.system.code_digests import CodeIndex
from launcher.system.code_links import digest_of
from launcher.system.code_snapshot import (
    PROMISE_FILE,
    SNAPSHOT_FILE,
    ChangedNames,
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
@click.option(
    "--replace",
    is_flag=True,
    help="Replace the old code. Jobs done before the latest restructuring run again.",
)
def take(package: str, *, replace: bool) -> None:
    """Store the present code of PACKAGE as the old code."""
    index = CodeIndex()
    folder = _folder(index, package)
    if (folder / SNAPSHOT_FILE).exists() and not replace:
        raise click.ClickException(
            f"{folder / SNAPSHOT_FILE} exists. Run `{PROGRAM} promise {package}`, or add --replace. Jobs that "
            "were done before the latest restructuring then run again."
        )
    write_snapshot(folder, index.modules, package)
    write_promise(folder, present_promise(index, package), {})
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
    folder = _folder(index, package)
    snapshot = index.snapshot(package)
    if snapshot is None:
        raise click.ClickException(f"{package} has no snapshot. Run `{PROGRAM} take {package}`.")
    modules = present_promise(index, package)
    digests = {
        f"{module}.{name}": element.digest
        for module, promised in modules.items()
        for element in promised.elements
        for name in element.names
    }
    for name in names:
        if name not in digests:
            raise click.ClickException(f"{package} has no definition {name}. Write MODULE.NAME.")
    if gone := sorted(snapshot.changed.keys() - digests.keys()):
        raise click.ClickException(
            f"{gone[0]} has other results than the old code, but does not exist any more. In {folder / PROMISE_FILE}, "
            "replace it in `changed` by the definition that does its work now."
        )
    marks = {name: digest_of(snapshot.changed.get(name, ""), digests[name])[:8] for name in names}
    write_promise(folder, modules, {**snapshot.changed, **marks})
    click.echo(f"wrote {PROMISE_FILE} to {folder}")


@main.command()
@click.argument("package")
def check(package: str) -> None:
    """List definitions of PACKAGE that differ from its promise.

    Exit with 1 if there are any.
    """
    if changes := unpromised(CodeIndex(), package):
        click.echo("\n".join(changes))
        raise click.exceptions.Exit(1)


def present_promise(index: CodeIndex, package: str) -> dict[str, PromisedModule]:
    """Return the promise for the present code of a package."""
    return {
        module: promised_module(index.modules, index.graph, module)
        for module in promised_modules(index.modules, package)
    }


def unpromised(index: CodeIndex, package: str) -> list[str]:
    """Return the names of modules and definitions that differ from the promise of a package.

    Raises:
        UsageError: the package has no snapshot.
    """
    snapshot = index.snapshot(package)
    if snapshot is None:
        raise UsageError(f"{package} has no snapshot. Run `{PROGRAM} take {package}`.")
    now, then = present_promise(index, package), snapshot.promise
    changes = ChangedNames.join(
        now[module].changes_to(then[module]).names(module) for module in now.keys() & then.keys()
    )
    return sorted({*(now.keys() ^ then.keys()), *changes.decisive()})


def _folder(index: CodeIndex, package: str) -> Path:
    """Return the folder of a top-level package.

    Raises:
        click.ClickException: there is no such package.
    """
    if not index.modules.is_package(package) or "." in package:
        raise click.ClickException(
            f"{package} is not a top-level package that can be imported. Write its name, such as lab."
        )
    return index.modules.places(package)[0]


if __name__ == "__main__":
    main(prog_name=PROGRAM)
