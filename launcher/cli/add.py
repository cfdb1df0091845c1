"""`launcher add -- COMMAND ARG…`: queue any program."""

import os
import time

import click

from launcher.errors import UsageError
from launcher.handover import ensure_scheduler, wake
from launcher.paths import find_home, make_home
from launcher.specs import Resources, Spec, this_context
from launcher.states import State
from launcher.store.store import Store
from launcher.views import harmless

RUN = "add"  # the run of jobs that come from no task file


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--name", help="The job's name; by default command/ and a number.")
@click.option("--cpus", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--priority", type=int, default=0, show_default=True, help="Higher starts sooner.")
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def command(name: str | None, cpus: int, priority: int, program: tuple[str, ...]) -> None:
    """Queue PROGRAM with its arguments; it starts here, as it is typed, without a shell.

    \b
    Examples:
      launcher add -- python train.py --lr 0.1
      launcher add --cpus 4 --name prep -- ./prepare.sh data/
    """
    if name is not None and name != os.fsencode(name).decode(errors="replace"):
        raise UsageError(f"the name {name!r} is no UTF-8 text")
    home = find_home(os.environ)
    make_home(home)
    store = Store(home)
    home.stop.unlink(missing_ok=True)
    with store.writing():
        run = store.run(home.folder, RUN)
        title = f"command/{name or store.next_number()}"
        if store.read.jobs("jobs.run = ? AND jobs.name = ?", (run, title)):
            raise UsageError(f"there is a job {title!r} already; give another --name")
        spec = Spec(
            name=title,
            kind="command",
            role="plain",
            run=RUN,
            root=str(home.folder),
            argv=program,
            resources=Resources(cpus=cpus, device="cpu"),
            priority=priority,
        )
        job = store.put(
            run,
            store.context(this_context()),
            spec,
            state=State.QUEUED,
            reason="new",
            now=time.time(),
        )
        store.set_needs(job, ())
    ensure_scheduler(home)
    wake(home)
    click.echo(f"{job}\t{harmless(title)}")
