"""Builders of the values and processes that tests need; each says only what matters to a test."""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.context import Context, WorkerEnvironment
from launcher.queue.jobs.job import Resources, Spec, Terms
from launcher.queue.jobs.states import Done, Outcome, Reason, ReasonCode, State
from launcher.queue.scheduler.policy.model import Decision, Start, Wait, Waiting
from launcher.queue.store.claims import ClaimPlacement
from launcher.queue.store.queue import NewJob, Store
from launcher.queue.store.rows import Claim, JobRow
from launcher.queue.workers.attempt_handles import (
    AdoptedAttempt,
    AttemptHandle,
    SupervisedAttempt,
    UnreadableAttempt,
    inspect_attempt,
    probe_attempt,
)
from launcher.queue.workers.attempt_journal import read_recorded_outcome
from launcher.queue.workers.attempt_spec import attempt_spec_text
from launcher.queue.workers.fork_server_handles import ForkServer
from launcher.system.files import Json, write_json, write_whole
from launcher.system.locks import lock_holder
from launcher.system.process_trees import descendants, send_signal
from launcher.system.processes import (
    boot_id,
    identity,
    identity_from_record,
    identity_lines,
    parent_of,
)

# For anything that must happen: a busy machine needs many times what a quiet one does. Without forks, processes
# have the intervals of the product, in which a missing interpreter counts as gone after a minute.
DEADLINE_S = 240.0 if os.environ.get("LAUNCHER_TESTS_STARTS") == "anew" else 60.0
PAUSE_S = (
    0.01  # longest pause between two polls in seconds: the awaited process needs the cores, too
)
PLAIN = WorkerEnvironment()
GIB = 1 << 30


@dataclass
class Clock:
    """A clock that a test sets."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Return soon after `condition` holds, fail when it does not in time."""
    deadline, pause_s = time.monotonic() + deadline_s, 0.001
    while not condition():
        assert time.monotonic() < deadline, f"waited {deadline_s:g} s in vain until {what}"
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_S)


def ended(descriptor: int, deadline_s: float = DEADLINE_S) -> bool:
    """Wait for the end of the process behind a pidfd. Return whether it came in time."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(deadline_s * 1000))


@contextmanager
def renamed(kind: type) -> Iterator[None]:
    """Give a class another name for a block, as a later version may do."""
    name, kind.__name__ = kind.__name__, "Renamed"
    try:
        yield
    finally:
        kind.__name__ = name


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


def a_gpu(
    index: int = 0, *, total: float = 40, used: float | None = 0, **changes: Any
) -> GpuSnapshot:
    """A GPU; memory in GiB."""
    values: dict[str, Any] = {"uuid": f"GPU-{index}", "index": index, "name": "NVIDIA A100"}
    taken = None if used is None else round(used * GIB)
    return GpuSnapshot(**values | {"total": round(total * GIB), "used": taken} | changes)


def a_waiting(
    job: int,
    cpus: int = 1,
    group: str = "",
    *,
    seconds: float | None = None,
    visible: tuple[str, ...] | None = None,
    **resources: Any,
) -> Waiting:
    """A ready job. Its declared memory is reserved."""
    asked = Resources(cpus=cpus, **resources)
    return Waiting(
        job=job,
        resources=asked,
        group=group,
        vram=asked.vram,
        estimated=asked.vram is None,
        enough=0 if asked.vram is None else None,
        seconds=seconds,
        visible=visible,
    )


def without_reason_data(decision: Decision) -> Decision:
    """A decision as shown to users: a wait without the data of its reason."""
    if isinstance(decision, Start):
        return decision
    shown = Wait(job=decision.job, reason=decision.reason)
    return shown._replace(
        blocked_by_others=decision.blocked_by_others, blocked_by_own=decision.blocked_by_own
    )


def a_claim(spec: Spec | None = None, *, job: int = 1, number: int = 1, **changes: Any) -> Claim:
    """An attempt with a place since this boot, whose supervisor is dead."""
    values: dict[str, Any] = {
        "boot": boot_id(),
        "device": "cpu",
        "cpus": 1,
        "pid": 0,
        "start_ticks": 0,
        "spec_text": json.dumps((spec or a_spec()).to_json()),
        "context_text": json.dumps(a_context()._asdict()),
    }
    return Claim(job=job, number=number, **values | changes)


def an_attempt(
    home: Home,
    spec: Spec,
    *,
    job: int = 1,
    number: int = 1,
    context: Context | None = None,
    cpus: int = 1,
    device: str = "cpu",
    **terms: Any,
) -> Attempt:
    """An attempt with its order in its folder, as left by a scheduler."""
    attempt = home.attempt(job, number)
    attempt.folder.mkdir(mode=0o700, parents=True)
    spec = spec._replace(terms=Terms(**terms)) if terms else spec
    text = attempt_spec_text(
        job=job,
        attempt_number=number,
        device=device,
        cpus=cpus,
        spec_text=json.dumps(spec.to_json()),
        context_text=json.dumps((context or a_context(attempt.folder))._asdict()),
    )
    write_whole(attempt.spec, text)
    return attempt


def started(fork_server: ForkServer, attempt: Attempt) -> SupervisedAttempt:
    """Have a new supervisor take up an attempt; its descriptor becomes readable at the end."""
    fork_server.request_supervisor()
    supervisor = fork_server.receive_supervisor()
    assert supervisor is not None, "the fork server is dead"
    supervisor.run(attempt)
    return SupervisedAttempt(attempt=attempt, supervisor=supervisor, environment=PLAIN)


def outcome_of(one: SupervisedAttempt, deadline_s: float = DEADLINE_S) -> Outcome:
    """Wait for the attempt's end and return what its supervisor recorded."""
    assert ended(one.descriptor, deadline_s), "the attempt does not end"
    one.supervisor.channel.close()
    outcome = read_recorded_outcome(one.attempt)
    assert outcome is not None, "no outcome was recorded"
    return outcome


def run_attempt(
    fork_server: ForkServer, home: Home, spec: Spec, **order: Any
) -> tuple[Attempt, Outcome]:
    """Run one attempt from its order to its recorded end."""
    attempt = an_attempt(home, spec, **order)
    return attempt, outcome_of(started(fork_server, attempt))


def program_of(attempt: Attempt) -> int:
    """Wait until an attempt's program is on record, and return its pid."""
    until(lambda: _on_record(attempt, "program"), "the program is on record")
    return _on_record(attempt, "program") or 0


def supervisor_of(attempt: Attempt) -> int:
    """Wait until an attempt is started, and return the pid of its supervisor."""
    until(lambda: _on_record(attempt, "supervisor"), "the attempt is started")
    return _on_record(attempt, "supervisor") or 0


def _on_record(attempt: Attempt, whose: str) -> int | None:
    line = 1 if whose == "program" else 0
    lines = on_record(attempt)
    who = identity_from_record(json.loads(lines[line])) if len(lines) > line else None
    return who.pid if who else None


def on_record(attempt: Attempt) -> list[bytes]:
    """Return the lines on record of an attempt's supervisor and its program, as far as they are there."""
    try:
        return identity_lines(attempt.started.read_bytes())
    except FileNotFoundError:
        return []


def enqueue(
    store: Store,
    *jobs: Spec | str,
    needs: Mapping[str, Iterable[str]] | None = None,
    after_any: Mapping[str, Iterable[str]] | None = None,
    context: Context | None = None,
    run: str = "test",
    root: Path = Path("/nowhere"),
) -> list[int]:
    """Queue jobs in one transaction, and return their numbers; a name is that of a plain job."""
    numbers: dict[str, int] = {}
    with store.database.writing():
        run_id = store.ensure_run(root, run)
        for spec in (a_spec(name=job) if isinstance(job, str) else job for job in jobs):
            wanted = [numbers[need] for need in (needs or {}).get(spec.name, ())]
            awaited = [numbers[need] for need in (after_any or {}).get(spec.name, ())]
            new = NewJob(spec=spec, dependencies=wanted, after_any=awaited)
            numbers[spec.name] = store.insert_or_replace(
                run_id, context or a_context(), new, time.time()
            )
    return list(numbers.values())


def a_seat(**changes: Any) -> ClaimPlacement:
    """A place on the CPU, with a supervisor that is dead."""
    values: dict[str, Any] = {
        "device": "cpu",
        "cpus": 1,
        "boot": boot_id(),
        "pid": 0,
        "start_ticks": 0,
    }
    return ClaimPlacement(**values | changes)


def claimed(store: Store, job: int, now: float = 1.0, **seat: Any) -> Claim:
    """Claim a job as a scheduler does."""
    claim = store.claims.claim(job, a_seat(**seat), reason="fits", now=now)
    assert claim is not None, f"job {job} cannot be claimed"
    return claim


def reaches(store: Store, job: int, state: State) -> None:
    """Wait until a job is in a state."""
    until(lambda: in_state(store, job, state), f"job {job} is {state}")


def finished(store: Store, job: int, outcome: Outcome | None = None) -> None:
    """Claim a job, and have its attempt end; well, if nothing else is said."""
    outcome = outcome or Done(at=2.0)
    store.transitions.finish_attempt(claimed(store, job), outcome, outputs={}, now=outcome.at)


def job_row(store: Store, job: int) -> JobRow:
    """Return a job as the queue knows it now."""
    (row,) = store.read.jobs_by_id([job])
    return row


def lane_reason_text(job: JobRow) -> str:
    """Return why the first job of a job's lane cannot start; '' if it can."""
    return "" if job.lane_reason is None else job.lane_reason.text


def a_reason(text: str = "full", code: ReasonCode = ReasonCode.NO_ROOM, **data: Json) -> Reason:
    """Why a job waits, or what became of its attempt."""
    return Reason(code=code, text=text, data=data)


def in_state(store: Store, job: int, *states: State) -> bool:
    """Whether a job is in one of the states now."""
    return job_row(store, job).state in states


def endings(store: Store, job: int) -> list[str | None]:
    """Return how each attempt of a job ended, None if it has not."""
    outcomes = [attempt.outcome for attempt in store.read.attempts([job])]
    return [outcome["ending"] if outcome else None for outcome in outcomes]


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
    """Whether no process with this pid runs. A zombie does not run."""
    return identity(pid) is None


def shell(script: str, *words: str) -> tuple[str, ...]:
    """A program that does what `script` says; `words` are its $1, $2 …."""
    return ("/bin/sh", "-c", script, "sh", *words)


def seen(attempt: Attempt, claim: Claim | None = None) -> Outcome | AttemptHandle:
    """Return what a new scheduler sees of an attempt, as soon as that is clear."""
    return wait_until_known(
        probe_attempt(attempt, partial(inspect_attempt, (claim or a_claim()).supervisor, attempt))
    )


def wait_until_known(found: Outcome | AttemptHandle) -> Outcome | AttemptHandle:
    """Return the outcome or the watch of an attempt as soon as it is known: a fork server may have to report first."""
    looked, deadline = found, time.monotonic() + DEADLINE_S
    while isinstance(looked, UnreadableAttempt):
        assert time.monotonic() < deadline, f"{looked.attempt} stays unclear"
        time.sleep(PAUSE_S)
        looked = replace(looked, retry_at=0.0).poll_outcome() or looked
    return looked


def judged(attempt: Attempt, *, claim: Claim | None = None) -> Outcome:
    """Return how an attempt ended in a new scheduler's eyes; fail when something of it lives."""
    found = seen(attempt, claim)
    assert isinstance(found, Outcome), "something of the attempt lives"
    return found


def fork_servers_of(home: Home) -> list[int]:
    """Return the fork servers of a queue folder, without the supervisors that they have forked."""
    found: dict[int, int | None] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if words[3:5] == [b"launcher.queue.workers.fork_server", os.fsencode(home.folder)]:
                who = identity(int(entry.name))
                found[int(entry.name)] = parent_of(who) if who else None
    return [pid for pid, parent in found.items() if parent not in found]


def end_everything(home: Home) -> None:
    """Kill all processes that a test left running in a queue folder, with their descendants."""
    if not home.folder.exists():
        return
    write_json(home.stop_record, {"schema": 1, "now": False, "at": 0.0})  # nothing is restarted
    _kill([scheduler_pid(home), lock_holder(home.notify_lock)])
    if not home.attempts.exists():
        return
    for folder in home.attempts.iterdir():
        # this voids unstarted attempts
        while isinstance(found := seen(Attempt(folder)), AdoptedAttempt):
            leader = found.program or supervisor_of(found.attempt)
            _kill([*descendants(leader), leader])
            ended(found.descriptor)
            os.close(found.descriptor)


def _kill(pids: Sequence[int | None]) -> None:
    for pid in pids:
        if pid is not None:
            send_signal(pid, signal.SIGKILL)
