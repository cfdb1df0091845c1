"""Builders of the values and processes that tests need; each says only what matters to a test."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.adoption import Watch, watch
from launcher.handover import scheduler_pid
from launcher.nursery import Breed, Nursery
from launcher.orders import TERM_GRACE_S, Order
from launcher.paths import Attempt, Home
from launcher.policy import Waiting
from launcher.processes import (
    boot_id,
    descendants,
    identity,
    lock_holder,
    recorded,
    send,
)
from launcher.records import read_json, write_json
from launcher.specs import Context, Resources, Spec
from launcher.states import Outcome, State, read_outcome
from launcher.store.rows import Claim, JobRow
from launcher.store.store import Store

DEADLINE_S = 20.0  # for anything that must happen; a busy machine needs more than a quick one
PLAIN = Breed(sys.executable, (), "")


def until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Return as soon as `condition` holds, fail when it does not in time."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {deadline_s:g} s in vain until {what}"
        time.sleep(0.002)


def ended(descriptor: int, deadline_s: float = DEADLINE_S) -> bool:
    """Wait for the end of the process behind a pidfd; tell whether it came in time."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(deadline_s * 1000))


def a_context(folder: Path | str = "/", **changes: Any) -> Context:
    """Surroundings of a shell in `folder`."""
    values: dict[str, Any] = {
        "folder": str(folder),
        "umask": 0o022,
        "interpreter": sys.executable,
        "environment": {"PATH": os.environ["PATH"]},
        "affinity": tuple(sorted(os.sched_getaffinity(0))),
    }
    return Context(**values | changes)


def a_spec(*argv: str, name: str = "command/1", cpus: int = 1, **changes: Any) -> Spec:
    """A job that runs a program, `true` when none is named."""
    values: dict[str, Any] = {
        "kind": "command",
        "role": "plain",
        "run": "test",
        "root": "/nowhere",
        "argv": argv or ("true",),
        "resources": Resources(cpus=cpus, device="cpu"),
    }
    return Spec(name=name, **values | changes)


def a_waiting(job: int, cpus: int = 1, **resources: Any) -> Waiting:
    """A job that could start."""
    return Waiting(job=job, resources=Resources(cpus=cpus, **resources))


def a_claim(spec: Spec | None = None, *, job: int = 1, number: int = 1, **changes: Any) -> Claim:
    """An attempt that was promised a place during this boot."""
    values: dict[str, Any] = {
        "boot": boot_id(),
        "device": "cpu",
        "cpus": 1,
        "claimed": 0.0,
        "wish": "",
        "context": a_context(),
    }
    return Claim(job=job, number=number, spec=spec or a_spec(), **values | changes)


def an_attempt(
    home: Home,
    spec: Spec,
    *,
    job: int = 1,
    number: int = 1,
    context: Context | None = None,
    cpus: int = 1,
    grace_s: float = TERM_GRACE_S,
) -> Attempt:
    """An attempt whose order lies in its folder, as a scheduler leaves it."""
    attempt = home.attempt(job, number)
    attempt.folder.mkdir(mode=0o700, parents=True)
    order = Order(
        spec=spec,
        context=context or a_context(attempt.folder),
        number=number,
        device="cpu",
        cpus=cpus,
        grace_s=grace_s,
    )
    write_json(attempt.spec, order.record())
    return attempt


def started(nursery: Nursery, attempt: Attempt) -> Watch:
    """Have a supervisor take up an attempt; its descriptor becomes readable when it ends."""
    nursery.order(attempt)
    descriptor = nursery.born()
    assert descriptor is not None, "the nursery is dead"
    return Watch(claim=a_claim(), attempt=attempt, descriptor=descriptor)


def outcome_of(one: Watch, deadline_s: float = DEADLINE_S) -> Outcome:
    """Wait for the supervisor's end and return what it recorded."""
    assert ended(one.descriptor, deadline_s), "the supervisor does not end"
    os.close(one.descriptor)
    record = read_json(one.attempt.outcome)
    assert record is not None, "no outcome was recorded"
    return read_outcome(record)


def run_attempt(nursery: Nursery, home: Home, spec: Spec, **order: Any) -> tuple[Attempt, Outcome]:
    """Run one attempt from its order to its recorded end."""
    attempt = an_attempt(home, spec, **order)
    return attempt, outcome_of(started(nursery, attempt))


def program_of(attempt: Attempt) -> int:
    """Wait until an attempt's program is on record, and return its pid."""
    until(lambda: recorded(read_json(attempt.process)), "the program is on record")
    who = recorded(read_json(attempt.process))
    assert who is not None
    return who.pid


def supervisor_of(attempt: Attempt) -> int:
    """Return the pid of an attempt's living supervisor."""
    pid = lock_holder(attempt.lock)
    assert pid is not None, "the attempt has no supervisor"
    return pid


def enqueue(
    store: Store,
    *specs: Spec,
    needs: Mapping[str, Iterable[str]] | None = None,
    context: Context | None = None,
    run: str = "test",
) -> list[int]:
    """Queue jobs in one transaction, and return their numbers."""
    numbers: dict[str, int] = {}
    with store.writing():
        run_id = store.run(Path("/nowhere"), run)
        remembered = store.context(context or a_context())
        for spec in specs:
            job = store.put(
                run_id, remembered, spec, state=State.QUEUED, reason="new", now=time.time()
            )
            numbers[spec.name] = job
            wanted = (needs or {}).get(spec.name, ())
            store.set_needs(job, [numbers[need] for need in wanted])
    return list(numbers.values())


def claimed(store: Store, job: int) -> Claim:
    """Claim a job as a scheduler does."""
    claim = store.claim(job, boot=boot_id(), device="cpu", cpus=1, reason="fits", now=1.0)
    assert claim is not None, f"job {job} cannot be claimed"
    return claim


def job_row(store: Store, job: int) -> JobRow:
    """Return a job as the queue knows it now."""
    (row,) = store.read.jobs_by_id([job])
    return row


def in_state(store: Store, job: int, *states: State) -> bool:
    """Tell whether a job is in one of the states now."""
    return job_row(store, job).state in states


def endings(store: Store, job: int) -> list[str | None]:
    """Return how each attempt of a job ended; None: it has not."""
    attempts = store.read.attempts_of(job)
    return [one["outcome"] and one["outcome"]["ending"] for one in attempts]


def lines_of(path: Path) -> list[str]:
    """Return a file's lines, none where there is no file."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def said_by(attempt: Attempt) -> str:
    """Return what an attempt's program wrote."""
    return attempt.log.read_text(errors="replace")


def gone(pid: int) -> bool:
    """Tell whether no process with this pid runs; a zombie does not."""
    return identity(pid) is None


def shell(script: str, *words: str) -> tuple[str, ...]:
    """A program that does what `script` says; `words` are its $1, $2 …."""
    return ("/bin/sh", "-c", script, "sh", *words)


def judged(attempt: Attempt, *, claim: Claim | None = None) -> Outcome:
    """Return how an attempt ended in a new scheduler's eyes; fail when something of it lives."""
    found = watch(claim or a_claim(), attempt)
    assert not isinstance(found, Watch), "something of the attempt lives"
    return found


def end_everything(home: Home) -> None:
    """Kill whatever a test left running in a home, at once and with all below it."""
    if not home.folder.exists():
        return
    write_json(home.stop, {"schema": 1, "now": False, "at": 0.0})  # nobody restarts anything
    _kill([scheduler_pid(home)])
    if not home.attempts.exists():
        return
    for folder in home.attempts.iterdir():
        # what nobody has started yet is voided by this
        while isinstance(found := watch(a_claim(), Attempt(folder)), Watch):
            leader = found.pid or lock_holder(found.attempt.lock)
            _kill([leader, *descendants(leader)] if leader else [])
            ended(found.descriptor)
            os.close(found.descriptor)


def _kill(pids: Sequence[int | None]) -> None:
    for pid in pids:
        if pid is not None:
            send(pid, signal.SIGKILL)
