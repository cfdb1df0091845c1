"""`launcher show`: all that is known of a job."""

import json
from typing import Any

import click

from launcher.cli.selection import HELP, only_job
from launcher.cli.session import open_queue, step_of
from launcher.paths import Home
from launcher.store.rows import JobRow
from launcher.store.store import Store
from launcher.views import columns, harmless, iso, job_line

EVENTS = 12  # the newest are what a person looks for


@click.command(epilog=f"JOB: {HELP}")
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
def command(job: str, as_json: bool) -> None:
    """Print what JOB does, why it is in its state, its attempts and its events.

    \b
    Examples:
      launcher show train/gan2:pre
      launcher show 12 --json
    """
    with open_queue() as (home, store):
        row = only_job(store, job)
        record = _record(home, store, row)
    if as_json:
        click.echo(json.dumps(record))
        return
    spec = record["spec"]
    click.echo(f"{record['name']}  ({record['run']}, job {record['id']})")
    why = "" if record["note"] == record["state"] else f": {record['note']}"
    click.echo(f"{record['state']}{why}\n")
    facts = [(key, record[key]) for key in ("hash", "needs", "folder", "log") if record[key]]
    facts += [(key, spec[key]) for key in ("model", "base", "data", "images", "argv") if spec[key]]
    facts += [(f"  {_text(key)}", value) for key, value in spec["settings"].items()]
    click.echo("\n".join(columns([(key, _text(value)) for key, value in facts])))
    click.echo("\nattempts")
    click.echo("\n".join(columns([_attempt(one) for one in record["attempts"]])) or "  none yet")
    click.echo("\nevents")
    events = record["events"][-EVENTS:]
    click.echo("\n".join(columns([(f"  {e['at']}", e["state"], e["reason"]) for e in events])))
    if record["result"]:
        click.echo("\nresult")
        facts = [(f"  {_text(key)}", _text(value)) for key, value in record["result"].items()]
        click.echo("\n".join(columns(facts)))


def _record(home: Home, store: Store, row: JobRow) -> dict[str, Any]:
    return {
        "schema": 1,
        **job_line(row, step_of(home, row)).record(),
        "hash": row.hash,
        "needs": store.read.needs_of(row.id),
        "folder": str(row.spec.run_folder),
        "log": str(home.attempt(row.id, row.attempts).log) if row.attempts else None,
        "spec": row.spec.record(),
        "attempts": store.read.attempts_of(row.id),
        "events": [
            {"at": iso(at), "state": state, "reason": harmless(reason)}
            for at, state, reason in store.read.events_of(row.id)
        ],
        "result": store.read.result_of(row.id),
    }


def _attempt(one: dict[str, Any]) -> tuple[str, ...]:
    took = f"{one['ended'] - one['claimed']:.1f} s" if one["ended"] else "runs"
    outcome = one["outcome"] or {}
    why = outcome.get("error") or outcome.get("why") or ""
    return (
        f"  {one['number']}",
        iso(one["claimed"]),
        one["device"],
        took,
        str(outcome.get("ending", "")),
        harmless(str(why).partition("\n")[0]),
    )


def _text(value: object) -> str:
    match value:
        case list() | tuple():
            return harmless(" ".join(map(str, value)))
        case float():
            return f"{value:.6g}"
        case dict():
            return harmless(json.dumps(value))
    return harmless(str(value))
