"""A mean over seeds reports the seeds in the queue that have no result."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.queue.home.paths import Home, make_home
from launcher.queue.jobs.states import Failed
from launcher.queue.store.queue import Store
from tests.build import a_spec, enqueue, finished
from tests.trueface.commands import Command
from tests.trueface.generators.run_by_hand import erased_run, restored_run
from tests.trueface.group_runs import logits, write_tests
from tests.trueface.unlearning.unlearned_runs import (
    flip_predictions as flips,
)
from tests.trueface.unlearning.unlearned_runs import (
    make_record as told,
)
from tests.trueface.unlearning.unlearned_runs import (
    write_unlearning as leave,
)
from trueface.cli.studies import missing_models
from trueface.evaluation.over_seeds import MissingModels
from trueface.report.outcome import unlearning_outcome
from trueface.report.unlearning import section
from trueface.unlearning.evaluation.leaderboard import make_unlearning_leaderboard

BASE, FAIR = "gan:pre%20", "gan2:pre@fair"


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Return a queue of its own."""
    home = Home(tmp_path / "home")
    monkeypatch.setenv("LAUNCHER_HOME", str(home.folder))
    make_home(home)
    store = Store(home, durable=False)
    yield store
    store.close()


def model_job(store: Store, run: Path, model: str, role: str, *, fails: bool) -> None:
    """Queue the job that makes a model; let it fail, or wait."""
    root = run.parent.parent
    spec = a_spec(name=f"{role}/{model}", kind=role, role=role, model=model, root=str(root))
    (job,) = enqueue(store, spec, run=run.name, root=root)
    if fails:
        finished(store, job, Failed(at=2.0, error="no"))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return a run of one unlearning method with two seeds, and of retraining."""
    run = tmp_path / "runs" / "study"
    run.mkdir(parents=True)
    for seed in (0, 1):
        for method, off in (("retrain", 4), ("scrub", 8)):
            record = told(f"{BASE}~{method}@seed={seed}", f"{BASE}@seed={seed}", seed=seed)
            leave(run, record, flips(24), flips(off))
    return run


def test_unlearned_counts_seeds_of_failed_and_waiting_jobs(
    study: Path, queue: Store, command: Command
) -> None:
    model_job(queue, study, f"{BASE}~scrub@seed=2", "method", fails=True)
    model_job(queue, study, f"{BASE}~scrub@seed=3", "method", fails=False)
    model_job(queue, study, f"{BASE}@seed=4", "train", fails=True)
    header, *rows = [line.split("\t") for line in command("unlearned", study).out.splitlines()]
    numbers = {row[header.index("method")]: row[header.index("n")] for row in rows}
    assert numbers["retrain"] == "2"
    assert numbers["scrub"] == "2 of 4, 1 failed, 1 waiting"
    assert numbers["before"].endswith(", 1 failed")
    (group,) = command("unlearned", study, "--json").json["groups"]
    missing = {row["method"]: row["missing"] for row in group["rows"]}
    assert missing == {
        "before": {"failed": 1},
        "retrain": {},
        "scrub": {"failed": 1, "waiting": 1},
    }


def test_report_section_and_sentence_count_missing_seeds(study: Path) -> None:
    board = make_unlearning_leaderboard(study, MissingModels({f"{BASE}~scrub@seed=2": "failed"}))
    assert "<td>2 of 3, 1 failed</td>" in section(board, {})
    assert "(2 of 3 seeds, 1 failed)" in unlearning_outcome(board.groups[0])


def test_report_counts_missing_seeds_of_detectors_and_unlearnings(
    study: Path, queue: Store, command: Command
) -> None:
    for seed in (1, 2):
        values = [logits(label, power=3, skew=0) for label in (0, 1)]
        write_tests(study, f"gan2:pre@seed={seed}", values)
    model_job(queue, study, "gan2:pre@seed=3", "train", fails=True)
    model_job(queue, study, f"{BASE}~scrub@seed=2", "method", fails=False)
    command("report", study)
    page = (study / "report.html").read_text()
    assert "(2 of 3 seeds, 1 failed)" in page  # the sentence about detectors
    assert "(2 of 3 seeds, 1 waiting)" in page  # the sentence about unlearnings
    assert "<td>2 of 3, 1 waiting</td>" in page


def test_erasing_and_purification_report_missing_results_first_in_all_outputs(
    tmp_path: Path, queue: Store, command: Command
) -> None:
    run = tmp_path / "runs" / "study"
    erased_run(run)
    restored_run(run)
    for seed in (1, 2):
        values = [logits(label, power=3, skew=0) for label in (0, 1)]
        write_tests(run, f"gan2:pre@seed={seed}", values)
    lost = "gan2:pre@seed=3"
    model_job(queue, run, lost, "train", fails=True)
    sentence = "1 model or folder of the run has no result: 1 failed."
    page = tmp_path / "page.html"
    for study in ("erasing", "purification"):
        assert sentence in command(study, run, "--page", page).out
        assert sentence in page.read_text()
        document = command(study, run, "--json").json
        assert document["verdict"][0].startswith(sentence)
        assert document["missing"] == {lost: "failed"}
    assert "<td>2 of 3, 1 failed</td>" in page.read_text()  # the detectors
    (detector,) = command("purification", run, "--json").json["detectors"]
    assert detector["missing"] == {"failed": 1}


@pytest.mark.parametrize("place", ["elsewhere/study", "runs/other"])
def test_models_of_other_runs_do_not_count_as_missing(
    tmp_path: Path, queue: Store, place: str
) -> None:
    model_job(queue, tmp_path / "runs" / "study", "gan:pre@seed=1", "train", fails=True)
    assert missing_models(tmp_path / "runs" / "study").why == {"gan:pre@seed=1": "failed"}
    assert missing_models(tmp_path / place).why == {}


def test_no_seeds_are_missing_without_a_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "none"))
    assert missing_models(tmp_path / "runs" / "study").why == {}
