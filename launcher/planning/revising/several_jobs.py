"""The same values set for several jobs of the queue, which may need each other."""

from collections.abc import Sequence
from dataclasses import replace
from graphlib import TopologicalSorter

from launcher.planning.revising.form import form_of
from launcher.planning.revising.hashes import Rehash
from launcher.planning.revising.queued_job import queued_job
from launcher.planning.revising.read_form import own_values, values_of
from launcher.planning.revising.revision import Revision, rehash_of, revise
from launcher.store.queue import Store
from launcher.store.rows import JobRow


def revise_all(
    store: Store, rows: Sequence[JobRow], sets: Sequence[str], now: float
) -> dict[int, Revision]:
    """Return number → job with some of its values set; one that has them already is not among these.

    Args:
        store: the queue.
        rows: the jobs; none of them runs.
        sets: `key=value` each, as those of `launcher run --set`.
        now: seconds since 1970.

    Raises:
        TaskFileError: all that is wrong with `sets`.
        UsageError: a job cannot be changed so.
    """
    rehash = rehash_of(store)
    worked_out = (
        (row.id, _revise(store, row, sets, now, rehash)) for row in _in_order(store, rows)
    )
    revisions = {number: revision for number, revision in worked_out if revision is not None}
    if not revisions:
        return {}
    # a hash is known when all that the job needs is: what was worked out before is no more true
    follow = {row.id: row for revision in revisions.values() for row, _ in revision.hashes}
    hashes = tuple(
        (row, rehash.hashes[row.id]) for row in follow.values() if row.id not in revisions
    )
    last = next(reversed(revisions))
    return {
        number: replace(
            revision,
            spec=replace(revision.spec, hash=rehash.hashes.get(number, revision.spec.hash)),
            hashes=hashes if number == last else (),
        )
        for number, revision in revisions.items()
    }


def _in_order(store: Store, rows: Sequence[JobRow]) -> list[JobRow]:
    """Return jobs each after those that it needs, directly or not."""
    chosen = {row.id: row for row in rows}
    order = TopologicalSorter[int](dict.fromkeys(chosen, ()))
    for number in chosen if len(chosen) > 1 else ():
        for dependant in store.steering.dependants(number):
            if dependant.id in chosen:
                order.add(dependant.id, number)
    return [chosen[number] for number in order.static_order()]


def _revise(
    store: Store, row: JobRow, sets: Sequence[str], now: float, rehash: Rehash
) -> Revision | None:
    job = queued_job(row)
    text = form_of(job, "")
    before = own_values(job, text, now)
    return revise(store, job, before, values_of(job, text, now, sets), rehash)
