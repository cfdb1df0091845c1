"""A new job in the place of one of its name that waits."""

from collections.abc import Collection

from launcher.context import Context
from launcher.errors import UsageError
from launcher.states import OPEN_STATES, Reason, ReasonCode, State
from launcher.store.lanes import rank_of
from launcher.store.queue import NewJob, Store
from launcher.store.rows import JobRow

REPLACED_REASON = Reason(code=ReasonCode.EDITED, text="replaced by `launcher add --replace`")
WAITING_STATES = frozenset({State.QUEUED, State.HELD})


def replace_waiting(store: Store, row: JobRow, context: Context, new: NewJob, now: float) -> int:
    """Put a job in the place of one of its name that waits; return its number. Inside `writing`.

    It keeps number, place in the queue, tags and note, and the jobs that wait for it; one that was held stays held.

    Raises:
        UsageError: it would wait for a job that waits for it.
    """
    _refuse_cycle(store, row, {*new.dependencies, *new.after_any})
    state = State.HELD if State.HELD in {row.state, new.state} else new.state
    spec, reason = new.spec, REPLACED_REASON
    replacing = NewJob(
        spec=spec,
        dependencies=new.dependencies,
        after_any=new.after_any,
        state=state,
        reason=reason,
    )
    job = store.insert_or_replace(row.run_id, context, replacing, now)
    # its place is that of when it was submitted first
    store.database.execute(
        "UPDATE jobs SET submitted = ?, rank = ? WHERE id = ?",
        (row.submitted, rank_of(row.submitted, spec.priority), job),
    )
    return job


def _refuse_cycle(store: Store, row: JobRow, needed: Collection[int]) -> None:
    behind = {
        row.id: row,
        **{other.id: other for other in store.job_control.transitive_waiters(row.id)},
    }
    for number in sorted(needed & behind.keys()):
        other = behind[number]
        if other.id == row.id:
            raise UsageError(f"{row.name} cannot wait for itself")
        if other.state in OPEN_STATES:
            raise UsageError(
                f"{row.name} cannot start after {other.name} (job {number}), which waits for it"
            )
