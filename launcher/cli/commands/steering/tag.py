"""`launcher tag`, `launcher note`: what owners write on jobs to find them again."""

import json
import sys
from collections.abc import Sequence

import click

from launcher.cli.complete import JOBS
from launcher.cli.prompts import dry_run_option, rehearse, say
from launcher.cli.select_jobs import HELP, select
from launcher.errors import UsageError
from launcher.screens.format import columns, first_line, harmless, tabbed
from launcher.store.client import open_queue
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.store.steering import TAG_RULE, check_note, is_tag
from launcher.system.files import Json

_EXAMPLE = "such as launcher tag 12 +paper"


@click.command(
    epilog=f"PATTERN: {HELP}",
    # -old is a tag to be taken away, so no option of this verb is one letter
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
@click.argument(
    "words", nargs=-1, metavar="[PATTERN]… [+TAG]… [-TAG]…", shell_complete=JOBS
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print what would change, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
def command(words: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Give tags to jobs (+TAG) and take tags from them (-TAG); without a tag, list those that they have.

    `tag:NAME` selects jobs wherever jobs are selected, and may be a glob. Without PATTERN all tags are listed.

    \b
    Examples:
      launcher tag run:quickstart +paper
      launcher tag 12 13 +baseline -old
    """
    if words == ("-h",):
        click.echo(click.get_current_context().get_help())
        return
    add, remove = (_tags(words, sign) for sign in "+-")
    patterns = [word for word in words if word[:1] not in {"+", "-"}]
    if twice := {*add} & {*remove}:
        raise UsageError(f"{min(twice)!r} cannot be both given and taken away")
    if (add or remove) and not patterns:
        raise UsageError(f"say which jobs get the tags, {_EXAMPLE}")
    if (add or remove) and as_json:
        raise UsageError("--json lists tags, and changes none: leave one of them out")
    with open_queue() as (_, store):
        if not patterns:
            _list_all(store.steering.all_tags(), as_json=as_json)
            return
        jobs = select(store, patterns)
        if not (add or remove):
            _list(store, jobs, as_json=as_json)
            return
        changes = " ".join([*(f"+{tag}" for tag in add), *(f"-{tag}" for tag in remove)])
        if dry_run:
            rehearse(jobs, lambda _: f"get {changes}")
            return
        touched = set(store.steering.change_tags([job.id for job in jobs], add, remove))
        tags = store.steering.tags_of(job.id for job in jobs)
    say(jobs, lambda job: _now(tags.get(job.id, ()), changed=job.id in touched))


def _tags(words: Sequence[str], sign: str) -> list[str]:
    """Return the tags behind a sign, each once.

    Raises:
        UsageError: one of them cannot be a tag.
    """
    tags = [*dict.fromkeys(word[1:] for word in words if word.startswith(sign))]
    for tag in tags:
        if not is_tag(tag):
            raise UsageError(f"{sign + tag!r} is no tag: {TAG_RULE}, {_EXAMPLE}")
    return tags


def _now(tags: Sequence[str], *, changed: bool) -> str:
    listed = f"tags: {', '.join(tags)}" if tags else "no tags"
    return listed if changed else f"{listed} (as before)"


def _list(store: Store, jobs: Sequence[JobRow], *, as_json: bool) -> None:
    tags = store.steering.tags_of(job.id for job in jobs)
    if as_json:
        records: list[Json] = [
            {"id": job.id, "name": harmless(job.name), "tags": list(tags.get(job.id, ()))}
            for job in jobs
        ]
        click.echo(json.dumps({"schema": 1, "jobs": records}))
        return
    say(jobs, lambda job: ", ".join(tags.get(job.id, ())))


def _list_all(tags: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        records = [{"tag": tag, "jobs": number} for tag, number in tags.items()]
        click.echo(json.dumps({"schema": 1, "tags": records}))
    elif not tags:
        click.echo(f"no job has a tag; `launcher tag JOB +TAG` gives it one, {_EXAMPLE}", err=True)
    else:
        rows = [(harmless(tag), str(number)) for tag, number in tags.items()]
        if sys.stdout.isatty():
            rows = [("TAG", "JOBS"), *rows]
            click.echo("\n".join(columns(rows, right=frozenset({1}))))
        else:
            click.echo(tabbed(rows))


@click.command(epilog=f"PATTERN: {HELP}")
@click.argument("pattern", shell_complete=JOBS)
@click.argument("text", required=False)
@dry_run_option
def note(pattern: str, text: str | None, dry_run: bool) -> None:
    """Write TEXT on jobs, in the place of the note that is there; without TEXT print the notes.

    An empty text ("") removes the note. `show` and `--json` of `status` have it.

    \b
    Examples:
      launcher note 12 "the run of table 3"
      launcher note train/gan2:pre
    """
    if text is not None:
        check_note(text)
    with open_queue() as (_, store):
        jobs = select(store, [pattern])
        if text is None:
            say(jobs, lambda job: job.owner_note)
            return
        what = f"note: {first_line(text)}" if text else "no note"
        if dry_run:
            rehearse(jobs, lambda _: f"have {what}")
            return
        store.steering.set_note([job.id for job in jobs], text)
    say(jobs, lambda _: what)
