"""From a plan to the queue, again and again with a file that was changed."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.planning.plan import Plan
from launcher.planning.plan_builder import build_plan
from launcher.planning.queue_comparison import compare_with_queue
from launcher.planning.submit import Submitted, submit
from launcher.states import Done, State
from launcher.store.queue import Store
from tests.build import a_context, claimed
from tests.launcher.language import KINDS, ROOT, read

FIRST = "train: [{data: dot:pre}]\nautotest: [real:pre]\n"


def a_plan(text: str, *said: str, there: bool = False) -> Plan:
    task = read(text, *said, kinds=KINDS)
    return build_plan(
        task,
        root=ROOT,
        exists=lambda path: there or "toys" in path.parts,
        code=lambda *_: {"": "d"},
        content=lambda _: "c",
    )


def queue(store: Store, made: Plan, now: float = 1.0) -> Submitted:
    rows = store.read.jobs_of(ROOT, made.name)
    return submit(store, ROOT, compare_with_queue(made, rows, lambda _: None), a_context(), now)


def finish(store: Store) -> None:
    """Have every job done that can be, in the order of their needs."""
    while ready := store.scheduling.ready(100):
        for one in ready:
            store.scheduling.finish(claimed(store, one.id), Done(at=1.0), outputs={}, now=1.0)


def needs_by_name(store: Store) -> dict[str, list[str]]:
    rows = store.read.jobs_of(ROOT, "x")
    return {name: sorted(store.read.needs_of(row.id)) for name, row in rows.items()}


def test_jobs_that_are_put_again_do_not_shift_the_needs_of_new_ones(store: Store) -> None:
    queue(store, a_plan(FIRST))
    finish(store)
    changed = "train: [{data: dot:pre, lr: 0.5}, {data: line:pre}]\nautotest: [real:pre, dot:pre]\n"
    done = queue(store, a_plan(changed))
    assert (done.queued, done.cached) == (6, 0)
    assert needs_by_name(store) == {job.name: sorted(job.needs) for job in a_plan(changed).jobs}
    names = [row.name for row in store.read.jobs_by_id(done.jobs)]
    assert sorted(names) == sorted(job.name for job in a_plan(changed).jobs)


@given(
    lists=st.lists(
        st.lists(
            st.tuples(st.sampled_from(["dot", "line", "ring"]), st.integers(1, 3)), min_size=1
        ),
        min_size=2,
        max_size=4,
    ),
    finished=st.booleans(),
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_was_queued_before_the_needs_are_those_of_the_plan(
    store: Store, lists: list[list[tuple[str, int]]], finished: bool
) -> None:
    for trainings in lists:
        entries = ", ".join(
            f"{{data: '{one}:pre', epochs: {n}}}" for one, n in dict(trainings).items()
        )
        made = a_plan(f"train: [{entries}]\nautotest: [real:pre, dot:fb]\n")
        submitted = queue(store, made)
        wired = needs_by_name(store)
        assert all(wired[job.name] == sorted(job.needs) for job in made.jobs)
        rows = {row.id: row.name for row in store.read.jobs_by_id(submitted.jobs)}
        assert [rows[number] for number in submitted.jobs] == [job.name for job in made.jobs]
        if finished:
            finish(store)


def test_phases_refuse_what_another_phase_made_with_other_settings(store: Store) -> None:
    queue(store, a_plan(FIRST))
    finish(store)
    assert queue(store, a_plan(FIRST, "phases=[test]", there=True)).cached == 1
    with pytest.raises(UsageError) as caught:
        queue(store, a_plan(FIRST, "phases=[test]", "lr=0.25", there=True))
    assert str(caught.value) == (
        "train/dot:pre, which phases leaves out, was made in another way (lr 0.1 → 0.25): "
        "run phases: [train] first"
    )


def test_phases_refuse_what_another_phase_has_not_finished(store: Store) -> None:
    queue(store, a_plan(FIRST, "phases=[train]"))
    with pytest.raises(UsageError, match="train/dot:pre, which phases leaves out, is queued"):
        queue(store, a_plan(FIRST, "phases=[test]", there=True))
    finish(store)
    assert queue(store, a_plan(FIRST, "phases=[test]", there=True)).queued == 1
    assert store.read.jobs_of(ROOT, "x")["train/dot:pre"].state is State.DONE
    assert Path(store.read.jobs_of(ROOT, "x")["test/dot:pre/real:pre"].root) == ROOT


def test_phases_accept_what_was_made_and_tell_to_wait_for_what_runs(store: Store) -> None:
    queue(store, a_plan(FIRST, "phases=[train]"))
    number = store.read.jobs_of(ROOT, "x")["train/dot:pre"].id
    with pytest.raises(UsageError, match=f"is queued: wait for it with `launcher wait {number}`"):
        queue(store, a_plan(FIRST, "phases=[test]", there=True))
