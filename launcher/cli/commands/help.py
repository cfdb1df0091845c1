"""`launcher help`: the pages of the documentation in the terminal."""

import sys

import click

from launcher.cli.complete import offer_topics
from launcher.cli.documents import document, for_terminal, topics
from launcher.cli.help_pages import launcher_command
from launcher.cli.main import VERBS, cli
from launcher.cli.option_types import json_option
from launcher.errors import UnknownName, UsageError
from launcher.screens.command_output import CommandOutput, print_output
from launcher.screens.terminal import terminal_width, uses_colour
from launcher.screens.text_table import TextTable, text_columns


@launcher_command()
@click.argument("topic", required=False, metavar="[TOPIC]", shell_complete=offer_topics)
@json_option
def command(topic: str | None, as_json: bool) -> None:
    """Print a page of the documentation.

    TOPIC is the name of a page or of a command. Without TOPIC, the pages are listed. On a terminal the page
    is formatted. In a pipe it is Markdown. With --json, the page or the list is a JSON object.

    \b
    Examples:
      launcher help
      launcher help gpus
      launcher help troubleshooting
    """
    if topic is None:
        _list_topics(as_json=as_json)
    elif topic.lower() in topics():
        _print_page(topic.lower(), as_json=as_json)
    elif topic in VERBS and as_json:
        raise UsageError("--json works only with the name of a page")
    elif topic in VERBS:
        _print_help(topic)
    else:
        raise UnknownName("topic", topic, [*topics(), *VERBS], where="launcher help")


def _print_help(name: str) -> None:
    parent = click.get_current_context().find_root()
    command_of = cli.get_command(parent, name)
    if command_of is not None:
        settings = command_of.context_settings
        with click.Context(command_of, parent, info_name=name, **settings) as context:
            click.echo(context.get_help())


def _list_topics(*, as_json: bool) -> None:
    pages = [document(name) for name in topics()]
    table = TextTable(text_columns("TOPIC", "PAGE"), [(page.topic, page.title) for page in pages])
    answer = CommandOutput(
        record=lambda: {"topics": [{"topic": page.topic, "title": page.title} for page in pages]},
        tables=lambda: [table],
    )
    print_output(answer, as_json=as_json)


def _print_page(topic: str, *, as_json: bool) -> None:
    page = document(topic)
    if as_json:
        print_output(CommandOutput(record=lambda: {**page._asdict()}), as_json=True)
    elif sys.stdout.isatty() and sys.stdout.encoding.lower().startswith("utf"):
        _print_formatted(page.text)
    else:
        click.echo(page.text.rstrip("\n"))


def _print_formatted(text: str) -> None:
    from rich.console import Console  # this import takes longer than other commands run
    from rich.markdown import Markdown

    console = Console(width=terminal_width(), no_color=not uses_colour(sys.stdout), highlight=False)
    console.print(Markdown(for_terminal(text), hyperlinks=False))
