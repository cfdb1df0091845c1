"""Jobs that wait in the queue already, and what a plan says of those that ask for something else."""

import pytest

from launcher.planning.queue_comparison import Action
from launcher.screens.plan_view import other_options
from launcher.store.queue import Store
from tests.launcher.planning.test_code_changes import a_plan, comparison, judged, queue

FILE = "train: [{data: dot:pre}, {data: line:pre}]\n"


def test_a_plan_names_the_options_with_which_a_waiting_job_was_not_queued(store: Store) -> None:
    queue(store, a_plan(FILE))
    made = a_plan(f"resources: {{cpus: 2, vram: 3GiB, time_limit: 2h, priority: 5}}\n{FILE}")
    compared = judged(store, made)["train/dot:pre"]
    assert compared.action is Action.JOIN
    assert set(compared.options) == {"cpus", "vram", "time_limit", "priority"}
    text = other_options(comparison(store, made).jobs)
    assert text.startswith("2 waiting jobs keep the options with which they were queued")


@pytest.mark.parametrize("top", ["", "resources: {not_before: '23:59'}\n"])
def test_a_plan_says_nothing_of_options_that_are_as_they_were(store: Store, top: str) -> None:
    queue(store, a_plan(FILE))
    assert other_options(comparison(store, a_plan(top + FILE)).jobs) == ""


def test_a_cancelled_job_is_queued_with_the_options_of_the_file(store: Store) -> None:
    queue(store, a_plan(FILE))
    store.steering.cancel([row.id for row in store.read.jobs()], 1.0)
    queue(store, a_plan(f"resources: {{cpus: 2}}\n{FILE}"))
    assert {row.spec.resources.cpus for row in store.read.jobs()} == {2}
    assert other_options(comparison(store, a_plan(f"resources: {{cpus: 2}}\n{FILE}")).jobs) == ""
