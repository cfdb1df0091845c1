"""What the site has beyond docs/: README.md as its first page, two more, the commands, the task files."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from launcher.cli.main import cli as launcher
from trueface.cli.main import cli as trueface

TREE = Path(__file__).parents[1]
STYLE = Path(__file__).with_name("site.css")
AT_THE_TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
WIDTH = 80  # columns of a help page
_INTO_DOCS = re.compile(r"\]\(docs/")
_OUT_OF_DOCS = re.compile(r"\]\(\.\./")
_INTO_CODE = re.compile(r"\[([^]]+)\]\(\.\./[^)]+\.py#L\d+\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that lie outside docs/, and the page of all commands."""
    tasks = sorted((TREE / "tasks").glob("*.yaml"))
    for path in (*(TREE / name for name in AT_THE_TOP), *tasks):
        name = path.relative_to(TREE).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    files.append(File.generated(config, STYLE.name, abs_src_path=str(STYLE)))
    files.append(File.generated(config, "commands.md", content="\n".join(_commands())))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001  # MkDocs' shape
    """Let a link that is right in the repository be right in the site, where docs/ is the root."""
    if page.file.src_uri in AT_THE_TOP:
        return _INTO_DOCS.sub("](", markdown)
    return _OUT_OF_DOCS.sub("](", _INTO_CODE.sub(r"\1", markdown))  # no code is in the site


def _commands() -> Iterator[str]:
    yield "# Commands\n\nEach command prints this text with `--help`; after an installation\n"
    yield "`man launcher-add` shows the same as a manual page.\n"
    for name, group in (("launcher", launcher), ("trueface", trueface)):
        context = click.Context(group, info_name=name, terminal_width=WIDTH)
        yield from _help(group, context)
        for verb in group.list_commands(context):
            command = group.get_command(context, verb)
            if command is not None and not command.hidden:
                inner = click.Context(command, parent=context, info_name=verb, terminal_width=WIDTH)
                yield from _help(command, inner)


def _help(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
