"""Models that are trained on the same wrong labels share the job that chooses them."""

from pathlib import Path

import pytest

from launcher.errors import UsageError
from launcher.planning.plan import Plan
from launcher.planning.queue_comparison import Action, ComparedJob, Comparison, compare_with_queue
from launcher.planning.submit import submit
from launcher.states import Done, State
from launcher.store.queue import Store
from launcher.system.files import Stamp
from tests.build import a_context, claimed
from tests.launcher.language import ROOT, a_plan, job, names

SWEPT = "train: [{{data: dot:pre, poison: [20, 50], matrix: {{lr: {}}}}}]\nunlearn: [pgu]\n"


def hashes(made: Plan) -> dict[str, str]:
    return {one.name: one.hash for one in made.jobs if one.kind != "poison"}


def test_one_job_chooses_for_all_models_of_the_same_poison() -> None:
    made = a_plan(SWEPT.format("[0.5, 0.25, 0.125, 0.1]"))
    assert names(made, "poison") == ["poison/dot:pre%20@lr=0.5", "poison/dot:pre%50@lr=0.5"]
    for rate in (20, 50):
        models = [f"dot:pre%{rate}@lr={lr}" for lr in (0.5, 0.25, 0.125, 0.1)]
        drawn = job(made, f"poison/{models[0]}")
        assert drawn.outputs == tuple(ROOT / f"runs/x/{one}/poison.json" for one in models)
        for one in models:
            assert drawn.name in job(made, f"train/{one}").needs
            assert drawn.name in job(made, f"unlearn/{one.replace('@', '~pgu@')}").needs


@pytest.mark.parametrize(
    "other",
    [
        "matrix: {poison_seed: [1, 2]}",
        "matrix: {data_root: [a, b]}",
        "poison: [20, f2r-20]",
    ],
)
def test_another_choice_is_another_job(other: str) -> None:
    rate = "" if other.startswith("poison:") else "poison: 20, "
    made = a_plan(f"train: [{{data: dot:pre, {rate}{other}}}]\n")
    assert len(names(made, "poison")) == 2


def test_other_images_are_another_choice_and_those_of_a_chain_are_not() -> None:
    made = a_plan(
        "train: [{data: dot:pre}, {data: ring:pre, poison: 20}, {data: line:pre, poison: 20},\n"
        "  {model: dot:pre, data: ring:pre, poison: 20}]\n"
    )
    assert names(made, "poison") == ["poison/ring:pre%20", "poison/line:pre%20"]
    assert "poison/ring:pre%20" in job(made, "train/dot:pre#ring:pre%20").needs


def test_no_model_becomes_another_by_whom_it_shares_its_choice_with() -> None:
    few, more = (hashes(a_plan(SWEPT.format(lrs))) for lrs in ("[0.5]", "[0.25, 0.5]"))
    assert few.items() <= more.items()
    alone = a_plan("train: [{data: dot:pre, poison: 20}]\n")
    assert job(alone, "poison/dot:pre%20").outputs == (ROOT / "runs/x/dot:pre%20/poison.json",)


def comparison(store: Store, made: Plan, there: set[Path]) -> Comparison:
    """Compare a plan with the queue where these files are there, as they were left."""
    paths = {str(path) for path in there}

    def stamp(path: str) -> Stamp | None:
        return (1, 1) if path in paths else None

    return compare_with_queue(made, store.read.jobs_of(ROOT, made.name), stamp)


def compared_jobs(store: Store, made: Plan, there: set[Path]) -> dict[str, ComparedJob]:
    compared = comparison(store, made, there)
    return {one.job.name: one for one in compared.jobs}


def run(store: Store, made: Plan, there: set[Path]) -> None:
    """Queue what is to run, and have it done."""
    submit(store, ROOT, comparison(store, made, there), a_context(), 1.0)
    while ready := store.scheduling.ready(100):
        for one in ready:
            (row,) = store.read.jobs_by_id([one.id])
            outputs = dict.fromkeys(map(str, job(made, row.name).outputs), (1, 1))
            number = claimed(store, one.id)
            store.scheduling.finish(number, Done(at=1.0), outputs=outputs, now=1.0)
    there |= {path for one in made.jobs for path in one.outputs}


def test_one_more_model_has_its_labels_chosen_and_nothing_trained_again(store: Store) -> None:
    there: set[Path] = set()
    run(store, a_plan(SWEPT.format("[0.5, 0.25]")), there)
    for lrs in ("[0.5, 0.25, 0.125]", "[0.125, 0.5, 0.25]"):  # the first writes, whoever it is
        compared = compared_jobs(store, a_plan(SWEPT.format(lrs)), there)
        again = [name for name, one in compared.items() if one.action is Action.RUN]
        assert {name.partition("/")[0] for name in again} == {"poison", "train", "unlearn"}
        assert all("lr=0.125" in name for name in again if not name.startswith("poison/"))
    last = a_plan(SWEPT.format("[0.5, 0.25, 0.125]"))
    reason = compared_jobs(store, last, there)["poison/dot:pre%20@lr=0.5"].reason
    assert reason == "dot:pre%20@lr=0.125 needs its choice, too"
    run(store, last, there)
    assert {one.action for one in compared_jobs(store, last, there).values()} == {Action.CACHED}


def test_records_that_jobs_of_their_own_chose_are_good_enough(store: Store) -> None:
    there: set[Path] = set()
    for lr in (0.25, 0.5):  # as they were before they were shared
        run(store, a_plan(SWEPT.format(f"[{lr}]")), there)
    compared = compared_jobs(store, a_plan(SWEPT.format("[0.25, 0.5]")), there)
    assert {one.action for one in compared.values()} == {Action.CACHED}


def test_a_choice_under_way_is_waited_for_before_one_more_model_joins(store: Store) -> None:
    few, more = (a_plan(SWEPT.format(lrs)) for lrs in ("[0.5]", "[0.5, 0.25]"))
    submit(store, ROOT, comparison(store, few, set()), a_context(), 1.0)
    waiting = compared_jobs(store, more, set())["poison/dot:pre%20@lr=0.5"]
    assert (waiting.action, waiting.state) == (Action.RUN, "changed")
    row = store.read.jobs_of(ROOT, "x")["poison/dot:pre%20@lr=0.5"]
    claimed(store, row.id)
    assert store.read.jobs_of(ROOT, "x")[row.name].state is State.RUNNING
    with pytest.raises(UsageError, match=r"needs its choice, too; wait for it with `launcher wait"):
        compared_jobs(store, more, set())
