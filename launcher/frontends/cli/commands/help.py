"""`launcher help`: the pages of the documentation in the terminal."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby

import click

from launcher.frontends.cli.complete import offer_topics
from launcher.frontends.cli.documents import (
    MOVED,
    Entry,
    document,
    entries,
    for_terminal,
    search,
    topics,
)
from launcher.frontends.cli.help_pages import launcher_command
from launcher.frontends.cli.main import cli
from launcher.frontends.cli.option_types import json_option
from launcher.frontends.cli.verb_table import VERBS
from launcher.frontends.screens.command_output import CommandOutput, print_output
from launcher.system.errors import UnknownName, UsageError
from launcher.system.terminal import print_stderr, terminal_width, uses_colour
from launcher.system.text_table import TextTable, shorten, text_columns

MOST_HITS = 20


@launcher_command(
    heading="Reference",
    place=10,
    summary="Print a page of the documentation.",
    other_names={"TOPIC": "man docs doc", "WORD": "search"},
)
@click.argument("words", nargs=-1, metavar="[TOPIC | WORD…]", shell_complete=offer_topics)
@json_option
def command(words: tuple[str, ...], as_json: bool) -> None:
    """Print a page of the documentation, or search all pages.

    TOPIC is the name of a page or of a command. Any other WORD is searched in headings and text. Without
    an argument, the pages are listed. On a terminal the page is formatted, and a long page opens in the
    program of PAGER, by default less. In a pipe it is Markdown. With --json, the page or the list is a JSON
    object.

    \b
    Examples:
      launcher help
      launcher help gpus
      launcher help logout
      launcher help out of memory
    """
    topic = " ".join(words)
    if not topic:
        _list_topics(as_json=as_json)
    elif topic.lower() in topics():
        _print_page(topic.lower(), as_json=as_json)
    elif new := MOVED.get(topic.lower()):
        print_stderr(f"The page '{topic}' is now part of '{new}'.")
        _print_page(new, as_json=as_json)
    elif topic in VERBS and as_json:
        raise UsageError(
            "--json works only with the name of a page, such as launcher help gpus --json"
        )
    elif topic in VERBS:
        _print_help(topic)
    else:
        _print_hits(topic, as_json=as_json)


def _print_help(name: str) -> None:
    parent = click.get_current_context().find_root()
    command_of = cli.get_command(parent, name)
    if command_of is not None:
        settings = command_of.context_settings
        with click.Context(command_of, parent, info_name=name, **settings) as context:
            click.echo(context.get_help())


def _list_topics(*, as_json: bool) -> None:
    pages = entries()
    answer = CommandOutput(
        record=lambda: {"topics": [page._asdict() for page in pages]},
        rows=lambda: [(page.topic, page.title, page.about, page.group) for page in pages],
        draw_lines=lambda width: _draw_topics(pages, width),
    )
    print_output(answer, as_json=as_json)


def _draw_topics(pages: Sequence[Entry], width: int) -> Iterator[str]:
    """Yield the pages below the titles of their groups."""
    name_width = max(len(page.topic) for page in pages)
    for group, each in groupby(pages, lambda page: page.group):
        yield from ("", group)
        for page in each:
            yield shorten(f"  {page.topic:{name_width}}  {page.title}: {page.about}", width)
    yield from ("", "To read a page: launcher help TOPIC. To search all pages: launcher help WORD")


def _print_hits(text: str, *, as_json: bool) -> None:
    """Print the sections that contain a text.

    Raises:
        UnknownName: no section contains the text.
    """
    hits = search(text)
    if not hits:
        raise UnknownName("topic", text, [*topics(), *VERBS], where="launcher help")
    rows = [(hit.topic, hit.section, hit.line) for hit in hits[:MOST_HITS]]
    table = TextTable(text_columns("TOPIC", "SECTION", "TEXT"), rows)
    answer = CommandOutput(
        record=lambda: {"hits": [hit._asdict() for hit in hits]},
        rows=lambda: rows,
        draw_lines=lambda width: [line.truncate(width) for line in table.to_lines()],
    )
    print_output(answer, as_json=as_json)
    if not as_json:
        more = (
            f" {len(hits) - MOST_HITS} more sections contain it." if len(hits) > MOST_HITS else ""
        )
        print_stderr(f"To read a page: launcher help {rows[0][0]}.{more}")


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
    from rich.theme import Theme

    console = Console(
        width=terminal_width(),
        no_color=not uses_colour(sys.stdout),
        highlight=False,
        theme=Theme(
            {"markdown.code": "bold cyan"}
        ),  # rich draws it on black, also in a light terminal
    )
    with console.capture() as page:
        console.print(Markdown(for_terminal(text), code_theme="ansi_dark", hyperlinks=False))
    shown = page.get()
    if shown.count("\n") < shutil.get_terminal_size().lines:
        click.echo(shown, nl=False)
        return
    os.environ.setdefault("LESS", "-FRX")  # colours, and the page stays on the screen
    click.echo_via_pager(shown, color=True)
