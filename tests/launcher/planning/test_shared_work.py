"""Plans whose jobs repeat work, and the jobs that do it once."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.experiments.kind_interface import Kind
from launcher.experiments.kinds import COMMAND
from launcher.experiments.planning.comparison import Action, ComparedJob, Comparison
from launcher.experiments.planning.plan import Plan
from launcher.experiments.planning.queue_comparison import compare_with_queue
from launcher.experiments.planning.shared_work import with_shared_jobs
from launcher.experiments.planning.submit import SubmittedRun, submit
from launcher.queue.jobs.states import Done, Failed, Outcome, State
from launcher.queue.store.queue import Store
from launcher.system.errors import TaskFileError, UsageError
from launcher.system.files import FileStamp
from tests.build import a_context, claimed, job_row
from tests.launcher import language
from tests.launcher.language import KINDS as PLAIN
from tests.launcher.language import ROOT, job
from tests.launcher.sharing_toys import WORD_BYTES, sharing_laboratory

KINDS: Mapping[str, Kind] = {**sharing_laboratory(), "command": COMMAND}


SHARE = "share/dot:pre"


TWO = """
defaults: {frozen: true}
shapes: [{data_root: toys}]
train:
  - {data: dot:pre, matrix: {lr: [0.1, 0.2]}}
"""


TRAININGS = ["train/dot:pre@lr=0.1", "train/dot:pre@lr=0.2"]


def a_plan(text: str, *said: str, kinds: Mapping[str, Kind] = KINDS) -> Plan:
    return language.a_plan(text, *said, kinds=kinds, exists=lambda path: "runs" in path.parts)


def compared(made: Plan, store: Store | None = None) -> Comparison:
    rows = store.read.jobs_of(ROOT, made.name) if store else {}
    return with_shared_jobs(compare_with_queue(made, rows, lambda _: None), rows)


def names(comparison: Comparison) -> list[str]:
    return [job.job.name for job in comparison.jobs]


def queue(store: Store, made: Plan) -> SubmittedRun:
    return submit(store, ROOT, compared(made, store), a_context(), 1.0)


def number(store: Store, name: str) -> int:
    return store.read.jobs_of(ROOT, "x")[name].id


def end(store: Store, name: str, outcome: Outcome) -> None:
    claim = claimed(store, number(store, name))
    store.transitions.finish_attempt(claim, outcome, outputs={}, now=3.0)


def ready(store: Store) -> list[str]:
    rows = {row.id: row.name for row in store.read.jobs()}
    return sorted(rows[job.id] for job in store.ready_jobs.read_ready(10))


def test_work_common_to_two_jobs_is_done_once_before_them() -> None:
    comparison = compared(a_plan(TWO))
    assert names(comparison) == ["shapes/toys", SHARE, *TRAININGS]
    shapes, share, *trainings = comparison.jobs
    assert (share.job.needs, share.after_any) == (("shapes/toys",), ())
    assert [job.after_any for job in (shapes, *trainings)] == [(), (SHARE,), (SHARE,)]
    assert share.job.settings["parts"] == [{"images": "dot:pre&real:pre", "passes": 1}]


def test_plugin_package_without_a_sharing_kind_is_planned_as_before() -> None:
    kinds = {name: kind for name, kind in KINDS.items() if name != "share"}
    assert names(compared(a_plan(TWO, kinds=kinds))) == ["shapes/toys", *TRAININGS]
    plain = TWO.replace("frozen: true", "frozen: false")
    old = names(compared(a_plan(plain, kinds=PLAIN)))
    assert old == ["shapes/toys", *TRAININGS]


def test_number_of_shared_passes_is_that_of_two_jobs() -> None:
    comparison = compared(a_plan(TWO.replace("lr: [0.1, 0.2]", "epochs: [3, 9, 5]")))
    share = next(job for job in comparison.jobs if job.job.name == SHARE)
    assert share.job.settings["parts"] == [{"images": "dot:pre&real:pre", "passes": 5}]
    (savings,) = comparison.savings
    assert savings.to_json() == {
        "kind": "share", "unit": "words", "items": 6, "passes": 3 + 5 + 5,
        "passes_saved": 3 + 5 + 5 - 5, "bytes": 5 * 6 * WORD_BYTES, "limit_bytes": None,
    }  # fmt: skip


def test_shared_jobs_of_equal_name_are_numbered() -> None:
    text = TWO.replace("lr: [0.1, 0.2]", "lr: [0.1, 0.2], scale: [1, 2]")
    shared = [name for name in names(compared(a_plan(text))) if name.startswith("share/")]
    assert shared == [SHARE, f"{SHARE}@2"]


def test_terms_come_from_all_jobs_and_the_shared_kind() -> None:
    made = a_plan(TWO).with_terms(lambda terms: terms._replace(on=("slurm",)))
    assert [job.job.terms.on for job in compared(made).jobs] == [("slurm",)] * 4


def test_resources_of_a_shared_kind_apply_to_its_jobs() -> None:
    asked = "resources: {cpus: 3, vram: 2GiB, share: {cpus: 7}}\n"
    jobs = {job.job.name: job.job.resources for job in compared(a_plan(asked + TWO)).jobs}
    assert (jobs[SHARE].cpus, jobs[SHARE].vram) == (7, 2 << 30)
    assert [jobs[name].cpus for name in TRAININGS] == [3, 3]
    with pytest.raises(TaskFileError, match="'memory' is not a resource"):
        a_plan("resources: {share: {memory: 7}}\n" + TWO)


def test_task_file_cannot_request_shared_work() -> None:
    with pytest.raises(TaskFileError, match="share jobs are created automatically"):
        a_plan("share: [{data_root: toys}]\n")


# --- beside the queue


def done(store: Store) -> None:
    for _ in range(3):
        for name in ready(store):
            end(store, name, Done(at=2.0))


def test_nothing_is_shared_after_its_users_are_done_except_for_two_more_jobs(store: Store) -> None:
    made = a_plan(TWO)
    assert queue(store, made).queued == 4
    done(store)
    again = compared(made, store)
    assert names(again) == ["shapes/toys", *TRAININGS]
    assert {job.action for job in again.jobs} == {Action.CACHED}
    assert again.savings == ()
    three = compared(a_plan(TWO.replace("[0.1, 0.2]", "[0.1, 0.2, 0.3]")), store)
    assert SHARE not in names(three), "one job is left, which does it alone"
    four = a_plan(TWO.replace("[0.1, 0.2]", "[0.1, 0.2, 0.3, 0.4]"))
    assert (compared(four, store).savings[0].passes, queue(store, four).queued) == (2, 3)
    assert ready(store) == [SHARE]


def test_shared_job_in_progress_is_joined(store: Store) -> None:
    made = a_plan(TWO)
    queue(store, made)
    end(store, "shapes/toys", Done(at=2.0))
    claim = claimed(store, number(store, SHARE))
    store.job_control.cancel([number(store, TRAININGS[0])], 2.0)
    again = compared(made, store)
    assert {job.job.name: job.action for job in again.jobs} == {
        "shapes/toys": Action.CACHED, SHARE: Action.JOIN,
        TRAININGS[0]: Action.RUN, TRAININGS[1]: Action.JOIN,
    }  # fmt: skip
    assert queue(store, made).queued == 1
    assert ready(store) == [], "both wait for the one that runs"
    store.transitions.finish_attempt(claim, Done(at=3.0), outputs={}, now=3.0)
    assert ready(store) == TRAININGS


def test_running_shared_job_for_other_parts_is_not_changed(store: Store) -> None:
    queue(store, a_plan(TWO))
    end(store, "shapes/toys", Done(at=2.0))
    claimed(store, number(store, SHARE))
    more = a_plan(TWO.replace("lr: [0.1, 0.2]", "epochs: [2, 3]"))
    comparison = compared(more, store)
    assert SHARE not in names(comparison)
    assert [job.after_any for job in comparison.jobs] == [(), (), ()]


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_jobs_run_even_if_the_shared_job_is_not_done(store: Store, how: str) -> None:
    made = a_plan(TWO)
    queue(store, made)
    end(store, "shapes/toys", Done(at=2.0))
    assert ready(store) == [SHARE]
    if how == "fails":
        end(store, SHARE, Failed(at=2.0, error="no"))
    else:
        store.job_control.cancel([number(store, SHARE)], 2.0)
    assert ready(store) == TRAININGS
    assert job_row(store, number(store, TRAININGS[0])).spec.after_any == (SHARE,)
    assert [job.job.name for job in compared(made, store).jobs if job.action is Action.RUN] == []


def test_shared_jobs_fail_with_their_data(store: Store) -> None:
    queue(store, a_plan(TWO))
    end(store, "shapes/toys", Failed(at=2.0, error="no"))
    states = {row.name: row.state for row in store.read.jobs()}
    assert {states[name] for name in (SHARE, *TRAININGS)} == {State.SKIPPED}
    queue(store, a_plan(TWO))
    assert ready(store) == ["shapes/toys"]
    done(store)
    assert {row.state for row in store.read.jobs()} == {State.DONE}


def test_shared_job_depends_only_on_programs_of_its_users() -> None:
    text = (
        "defaults: {frozen: true}\n"
        "command:\n  - {name: prepare, argv: [make]}\n  - {name: other, argv: [make, other]}\n"
        "train:\n"
        "  - {data: dot:pre, matrix: {lr: [0.1, 0.2]}, after: prepare}\n"
        "  - {data: dot:pre, matrix: {lr: [0.3, 0.4]}, after: other}\n"
        "  - {data: dot:pre, lr: 0.5, after: [other, prepare]}\n"
    )
    comparison = compared(a_plan(text))
    shares = {
        compared.job.name: compared.job.needs
        for compared in comparison.jobs
        if compared.job.kind == "share"
    }
    assert sorted(shares.values()) == [("command/other",), ("command/prepare",)]
    users = {
        compared.job.name: [shares[name] for name in compared.after_any]
        for compared in comparison.jobs
        if compared.job.kind == "train"
    }
    assert users == {
        "train/dot:pre@lr=0.1": [("command/prepare",)],
        "train/dot:pre@lr=0.2": [("command/prepare",)],
        "train/dot:pre@lr=0.3": [("command/other",)],
        "train/dot:pre@lr=0.4": [("command/other",)],
        "train/dot:pre": [],
    }
    assert not comparison.plan.missing


# --- Models that are trained on the same wrong labels share the job that chooses them


SWEPT = "train: [{{data: dot:pre, poison: [20, 50], matrix: {{lr: {}}}}}]\nunlearn: [pgu]\n"


def comparison(store: Store, made: Plan, there: set[Path]) -> Comparison:
    """Compare a plan with the queue where these files are there, as they were left."""
    paths = {str(path) for path in there}

    def stamp(path: str) -> FileStamp | None:
        return (1, 1) if path in paths else None

    return language.compared(store, made, stamp)


def compared_jobs(store: Store, made: Plan, there: set[Path]) -> dict[str, ComparedJob]:
    return {one.job.name: one for one in comparison(store, made, there).jobs}


def run(store: Store, made: Plan, there: set[Path]) -> None:
    """Queue what is to run, and have it done."""
    submit(store, ROOT, comparison(store, made, there), a_context(), 1.0)
    while ready := store.ready_jobs.read_ready(100):
        for one in ready:
            (row,) = store.read.jobs_by_id([one.id])
            outputs = dict.fromkeys(map(str, job(made, row.name).outputs), (1, 1))
            number = claimed(store, one.id)
            store.transitions.finish_attempt(number, Done(at=1.0), outputs=outputs, now=1.0)
    there |= {path for one in made.jobs for path in one.outputs}


def test_additional_model_selects_its_labels_without_retraining(store: Store) -> None:
    there: set[Path] = set()
    run(store, language.a_plan(SWEPT.format("[0.5, 0.25]")), there)
    for lrs in ("[0.5, 0.25, 0.125]", "[0.125, 0.5, 0.25]"):  # the first writes, whoever it is
        compared = compared_jobs(store, language.a_plan(SWEPT.format(lrs)), there)
        again = [name for name, one in compared.items() if one.action is Action.RUN]
        assert {name.partition("/")[0] for name in again} == {"poison", "train", "unlearn"}
        assert all("lr=0.125" in name for name in again if not name.startswith("poison/"))
    last = language.a_plan(SWEPT.format("[0.5, 0.25, 0.125]"))
    reason = compared_jobs(store, last, there)["poison/dot:pre%20@lr=0.5"].reason
    assert reason == "the flipped labels of dot:pre%20@lr=0.125 are not chosen yet"
    run(store, last, there)
    assert {one.action for one in compared_jobs(store, last, there).values()} == {Action.CACHED}


def test_records_selected_by_separate_jobs_are_accepted(store: Store) -> None:
    there: set[Path] = set()
    for lr in (0.25, 0.5):  # as they were before they were shared
        run(store, language.a_plan(SWEPT.format(f"[{lr}]")), there)
    compared = compared_jobs(store, language.a_plan(SWEPT.format("[0.25, 0.5]")), there)
    assert {one.action for one in compared.values()} == {Action.CACHED}


def test_selection_in_progress_delays_an_additional_model(store: Store) -> None:
    few, more = (language.a_plan(SWEPT.format(lrs)) for lrs in ("[0.5]", "[0.5, 0.25]"))
    language.queue(store, few)
    waiting = compared_jobs(store, more, set())["poison/dot:pre%20@lr=0.5"]
    assert (waiting.action, waiting.state) == (Action.RUN, "changed")
    row = store.read.jobs_of(ROOT, "x")["poison/dot:pre%20@lr=0.5"]
    claimed(store, row.id)
    assert store.read.jobs_of(ROOT, "x")[row.name].state is State.RUNNING
    with pytest.raises(UsageError, match=r"are not chosen yet\. Wait for it with `launcher wait"):
        compared_jobs(store, more, set())
