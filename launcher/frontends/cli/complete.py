"""Completions of a shell after Tab: jobs, runs, groups, kinds and files.

The functions in `offer_…` are the `shell_complete` of arguments and options. A user waits for the answer, so this
module imports little. It queries the queue only through launcher/queue/store/completion_queries.py. If the line contains no
option, the verb is not imported.
"""

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.frontends.cli.verb_table import ARGUMENTS, CHOOSING, FLAGS, OFFERED_STATES, VERBS

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from launcher.queue.store.completion_queries import CompletionQueries, Completions

CompletionItems = list["CompletionItem[str]"]
Complete = Callable[[click.Context, click.Parameter, str], CompletionItems]

VARIABLE = "_LAUNCHER_COMPLETE"
RUN_PREFIX, TAG_PREFIX, GROUP_PREFIX = "run:", "tag:", "group:"
MOST_FILES = 500


def offer_jobs(context: click.Context, _: click.Parameter, incomplete: str) -> CompletionItems:
    """Offer numbers and names of jobs, those that the verb can use first, run:NAME, tag:NAME and group:NAME."""
    states = OFFERED_STATES.get(context.info_name or "", ())

    def complete_words(queue: "CompletionQueries") -> "Completions":
        words: Completions = {}
        if not incomplete.startswith((RUN_PREFIX, TAG_PREFIX, GROUP_PREFIX)):
            words |= queue.numbers(incomplete, states)
            words |= queue.jobs(incomplete, states)
        for prefix, named, which in (
            (RUN_PREFIX, queue.runs, "of the run"),
            (TAG_PREFIX, queue.tags, "with the tag"),
            (GROUP_PREFIX, queue.groups, "of the group"),
        ):
            if incomplete and prefix.startswith(incomplete[: len(prefix)]):
                names = named(incomplete[len(prefix) :])
                words |= {f"{prefix}{name}": f"all jobs {which}" for name in names}
        return words

    return _completion_items(_query_queue(complete_words))


def offer_runs(_: click.Context, __: click.Parameter, incomplete: str) -> CompletionItems:
    """Offer names of runs, the newest first."""
    prefix = RUN_PREFIX if incomplete.startswith(RUN_PREFIX) else ""
    names = _query_queue(
        lambda queue: dict.fromkeys(queue.runs(incomplete.removeprefix(prefix)), "")
    )
    return _completion_items({f"{prefix}{name}": "" for name in names})


def offer_groups(_: click.Context, __: click.Parameter, incomplete: str) -> CompletionItems:
    """Offer the groups that have a limit."""
    return _completion_items(_query_queue(lambda queue: queue.groups(incomplete)))


def offer_kinds(_: click.Context, __: click.Parameter, incomplete: str) -> CompletionItems:
    """Offer the installed kinds."""
    from importlib.metadata import entry_points

    points = entry_points(group="launcher.kinds")  # the import of launcher.kinds takes too long
    names = sorted({point.name for point in points if point.name.startswith(incomplete)})
    return _completion_items(dict.fromkeys(names, ""))


def offer_topics(_: click.Context, __: click.Parameter, incomplete: str) -> CompletionItems:
    """Offer the pages of the documentation, and the commands."""
    from launcher.frontends.cli.documents import topics

    words = {**dict.fromkeys(topics(), "page"), **VERBS}
    return _completion_items(
        {word: text for word, text in words.items() if word.startswith(incomplete)}
    )


def offer_task_files(_: click.Context, __: click.Parameter, incomplete: str) -> CompletionItems:
    """Offer task files, and the folders on the way to them, with a slash."""
    head, slash, beginning = incomplete.rpartition("/")
    written = f"{head}{slash}"
    names: list[str] = []
    with contextlib.suppress(
        OSError, RuntimeError
    ):  # RuntimeError: the home folder of an unknown user
        folder = Path(written or ".").expanduser()
        for entry in os.scandir(folder):
            name = entry.name
            if not name.startswith(beginning) or (name[0] == "." and not beginning):
                continue
            if entry.is_dir():
                names.append(f"{written}{name}/")
            elif name.lower().endswith((".yaml", ".yml")):
                names.append(f"{written}{name}")
    return _completion_items(dict.fromkeys(sorted(names)[:MOST_FILES], ""))


def offer_files(_: click.Context, __: click.Parameter, incomplete: str) -> CompletionItems:
    """Let the shell offer files."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def complete_line(
    full_command: click.Command, verbs: Mapping[str, str], environ: Mapping[str, str]
) -> int:
    """Print the completions at the cursor for a shell; return the exit code.

    Args:
        full_command: Command line, used if a line contains options.
        verbs: Verbs and their summaries.
        environ: Environment with the request in click's variables.
    """
    from click.shell_completion import shell_complete, split_arg_string

    line = environ.get("COMP_WORDS", "")
    words = split_arg_string(line)[1:]
    *before, last = [*words, ""] if line[-1:].isspace() or not words else words
    options = {word for word in before if word.startswith("-")}
    light = options <= {*FLAGS} and not last.startswith("-") and not {*words[:1]} & {*CHOOSING}
    asked = light_command(verbs) if light else full_command
    return shell_complete(asked, {}, "launcher", VARIABLE, environ.get(VARIABLE, ""))


def light_command(verbs: Mapping[str, str]) -> click.Group:
    """Return a command line that completes like the full one for lines without options."""
    group = click.Group("launcher")
    flags = click.Option(["flags", *FLAGS], is_flag=True)
    for name, does in verbs.items():
        arguments = ARGUMENTS.get(name, ())
        parameters: list[click.Parameter] = [
            click.Argument(
                [f"a{index}"],
                nargs=-1 if index == len(arguments) - 1 else 1,
                shell_complete=globals()[complete] if complete else None,
            )
            for index, complete in enumerate(arguments)
        ]
        group.add_command(click.Command(name, params=[*parameters, flags], short_help=does))
    return group


def _query_queue(query: "Callable[[CompletionQueries], Completions]") -> "Completions":
    """Query the caller's queue; offer nothing, and print nothing, if that fails."""
    import sqlite3

    from launcher.queue.home.paths import find_home
    from launcher.queue.store.completion_queries import open_completion_queries
    from launcher.system.errors import Error

    try:
        with open_completion_queries(find_home(os.environ).database) as queue:
            return query(queue)
    except (sqlite3.Error, OSError, ValueError, Error):  # ValueError: not a text
        return {}


def _completion_items(words: Mapping[str, str]) -> CompletionItems:
    """Return completions for click without names that contain line ends."""
    from click.shell_completion import CompletionItem

    return [
        CompletionItem(word, help=(description if description.isprintable() else "") or None)
        for word, description in words.items()
        if word.isprintable()
    ]
