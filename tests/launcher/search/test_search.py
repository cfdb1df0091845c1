"""Searches: values are chosen by results, the queue is the truth, and a run ends with its search."""

import math
import os
import re
import runpy
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from launcher.api import search
from launcher.experiments.planning.load import load, plan
from launcher.experiments.search import definition
from launcher.experiments.search.api import Search
from launcher.experiments.search.definition import Objective, SearchDefinition, read_definition
from launcher.experiments.search.standing import best_trials, standing_of, standing_record
from launcher.experiments.search.study import Exhausted, SearchStudy, TrialRecord
from launcher.experiments.search.submission import (
    SearchRequest,
    commit_search,
    find_continued,
    find_same,
    program_search,
    sample_specs,
)
from launcher.experiments.search.trial_plans import plan_of_trial, planned_search
from launcher.experiments.search.trials import (
    EndedTrial,
    JobResult,
    TrialOutcome,
    end_of,
    read_values,
    results_for_study,
    steps_for_study,
)
from launcher.experiments.search.words import SearchWords
from launcher.experiments.taskfile.domains import Choice, text_of
from launcher.frontends.screens import chart
from launcher.frontends.screens.search_view import best_text, search_table, sort_searches
from launcher.frontends.web.results import result_table
from launcher.frontends.web.run_data import read_runs
from launcher.frontends.web.search_charts import search_charts
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import current_context
from launcher.queue.jobs.job import Terms
from launcher.queue.jobs.states import Done, ReasonCode, State
from launcher.queue.store.queue import Store
from launcher.queue.store.searches import SearchRow, SearchState, TrialRow
from launcher.system.errors import TaskFileError, UsageError
from launcher.system.files import Json, read_json
from tests.build import DEADLINE_S, a_spec, claimed, enqueue, finished, job_row, until
from tests.launcher.conftest import Answer, Launcher
from tests.launcher.queued import STOPPED, end, one
from tests.launcher.web.browser import served
from tests.shortened import QUICK_KILLS, shortened

optuna: Any = pytest.importorskip("optuna")
PROGRAM = """
import os, sys, time
words = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
x, seed = float(words["x"]), int(words.get("seed") or 0)
{body}
"""
QUICK = 'print(f"launcher: acc={-abs(x - 3) + seed / 10} loss={x}")'
COMPLETE, UNSTABLE, FAILED, PRUNED, UNKNOWN = TrialOutcome
Add = Callable[..., Answer]
LIMIT = f"{DEADLINE_S:g}s"
QUICK_SEARCHES = {
    "launcher.queue.scheduler.search_processes.RESTART_S": 0.2,
    "launcher.experiments.search.process.ROOM_S": 0.2,
}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """A search looks more often for room, and its process is soon started again."""
    with shortened(QUICK_SEARCHES | QUICK_KILLS):
        yield


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write the program that the searches run."""
    monkeypatch.chdir(tmp_path)

    def write(body: str) -> None:
        (tmp_path / "fit.py").write_text(PROGRAM.format(body=body))

    write(QUICK)
    return write


@pytest.fixture
def add(launcher: Launcher, program: Callable[[str], None]) -> Add:
    """`launcher add` of a search over x in the run `r`."""
    del program

    def call(*words: str, metric: str = "acc", space: str = "x=0.0..10.0") -> Answer:
        head = ("add", "--run", "r", "--name", "fit", "--search", metric, "--sweep", space)
        return launcher(*head, *words, "--", "python", "fit.py", "{sweep}")

    return call


def search_of(store: Store) -> SearchRow:
    (search,) = store.searches.all()
    return search


def trials_of(store: Store) -> list[TrialRow]:
    return store.searches.trials(search_of(store).id)


def study_of(home: Home) -> Any:
    journal = home.searches / "r/optuna-journal.log"
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    return optuna.load_study(study_name="r", storage=optuna.storages.JournalStorage(backend))


def as_tuples(study: Any) -> list[Any]:
    return [(each.number, each.state, each.values, each.params) for each in study.trials]


def test_search_tries_new_values_by_its_results_and_optuna_opens_the_study(
    add: Add, launcher: Launcher, home: Home, store: Store
) -> None:
    assert "maximize acc, 16 trials, tpe" in add("--trials", "16", "--parallel", "2").out
    launcher.well("wait", "run:r", "--timeout", LIMIT)
    rows = launcher.json("results", "r")["rows"]
    assert len({row["x"] for row in rows}) == 16
    study = study_of(home)
    assert [each.value for each in study.trials] == [row["acc"] for row in rows]
    assert study.best_value == max(row["acc"] for row in rows)
    told = [trial.told for trial in trials_of(store)]
    assert all(number - 2 < known <= number for number, known in enumerate(told))
    assert search_of(store).reason == "16 trials"
    assert launcher.json("results", "r", "--best", "acc")["rows"][0]["acc"] == study.best_value


def test_study_is_the_same_after_kills_and_without_its_journal(
    add: Add, launcher: Launcher, home: Home, store: Store
) -> None:
    add("--trials", "8", "--parallel", "1")
    for least in (2, 4):
        until(lambda least=least: len(trials_of(store)) > least, "trials were asked")  # type: ignore[misc]
        record = read_json(home.scheduler_record)
        assert record is not None
        os.kill(int(str(record["pid"])), signal.SIGKILL)
        launcher("status")
    launcher.well("wait", "run:r", "--timeout", LIMIT)
    trials = trials_of(store)
    assert [trial.number for trial in trials] == [*range(8)]
    before = as_tuples(study_of(home))
    (home.searches / "r/optuna-journal.log").unlink()
    add("--trials", "9")
    launcher.well("wait", "run:r", "--timeout", LIMIT)
    after = as_tuples(study_of(home))
    assert (after[:8], len(after)) == (before, 9)
    values = store.read.results(trial.job for trial in trials)
    assert [values[trial.job]["acc"] for trial in trials] == [each[2][0] for each in before]


@pytest.mark.parametrize(
    ("space", "values", "reason"),
    [
        ("x=1..4", [1, 2, 3, 4], "all 4 combinations were tried"),
        ("x=7", [7], "the only combination was tried"),
    ],
)
def test_finite_space_is_used_up_and_the_search_says_so(
    space: str, values: list[int], reason: str, add: Add, launcher: Launcher, store: Store
) -> None:
    add("--trials", "50", space=space)
    launcher.well("wait", "run:r", "--timeout", LIMIT)
    assert sorted(trial.values["x"] for trial in trials_of(store)) == values  # type: ignore[type-var]
    assert search_of(store).reason == reason


def test_bad_trials_are_pruned_keep_their_numbers_and_are_no_failures(
    add: Add,
    launcher: Launcher,
    program: Callable[[str], None],
    tmp_path: Path,
    home: Home,
    store: Store,
) -> None:
    program(  # the median pruner ends none of the first five trials
        f"bad = len(os.listdir('{tmp_path}/marks')) >= 5\n"
        f"open('{tmp_path}/marks/' + str(x), 'w').close()\n"
        "for step in range(600):\n"
        '    print(f"launcher: step={step} total=600 acc={-9 if bad else -x / 10}", flush=True)\n'
        "    time.sleep(.1 if bad else 0)\n"
    )
    (tmp_path / "marks").mkdir()
    add("--trials", "7", "--parallel", "1", "--grace", "1s")
    launcher.well("wait", "run:r", "--timeout", LIMIT)
    pruned = [trial for trial in trials_of(store) if trial.code == "pruned"]
    assert [trial.number for trial in pruned] == [5, 6]
    assert {trial.state for trial in trials_of(store)} == {State.DONE}
    rows = launcher.json("results", "r")["rows"]
    assert [row["trial"] for row in rows] == [*[None] * 5, *["pruned"] * 2]
    answer = launcher("results", "r", "--best", "acc:min", "--columns", "acc")
    assert float(answer.out.split()[1]) == min(row["acc"] for row in rows[:5])
    assert "2 rows were left out of the best: 2 are pruned trials" in answer.err
    states = [each.state for each in study_of(home).trials]
    assert states.count(optuna.trial.TrialState.PRUNED) == 2


def test_failed_trial_is_reported_and_a_killed_one_is_repeated(
    add: Add,
    launcher: Launcher,
    program: Callable[[str], None],
    tmp_path: Path,
    home: Home,
    store: Store,
) -> None:
    program(
        f"mark = '{tmp_path}/killed'\n"
        "if x == 1: sys.exit(3)\n"
        "if x == 2 and not os.path.exists(mark):\n"
        "    open(mark, 'w').close(); os.kill(os.getpid(), 9)\n" + QUICK
    )
    add("--trials", "4", space="x=0..3")
    assert launcher("wait", "run:r", "--timeout", LIMIT).code == 1
    states = {trial.values["x"]: (trial.state, trial.attempts) for trial in trials_of(store)}
    assert states[1] == (State.FAILED, 1)
    assert states[2] == (State.DONE, 2)
    fails = [each.params["x"] for each in study_of(home).trials if each.value is None]
    assert fails == [1]


def test_mean_over_seeds_is_what_the_search_sees_and_a_trial_with_a_failed_seed_is_not_best(
    add: Add, launcher: Launcher, program: Callable[[str], None], home: Home, store: Store
) -> None:
    program(f"if x == 3 and seed == 3: sys.exit(1)\n{QUICK}")
    files = ("--metrics", "m{x}-{seed}.csv", "--tensorboard", "{x}")
    added = add("--trials", "3", "--repeat", "seed=1..3", *files, space="x=2,3,5")
    assert "warning: the trials name the same folder of event files {x}. " in added.err
    assert "metrics file" not in added.err
    launcher("wait", "run:r", "--timeout", LIMIT)
    assert len(trials_of(store)) == 9
    named = {job.spec.terms.metrics for job in store.read.jobs()}
    assert named == {f"m{x}-{seed}.csv" for x in (2, 3, 5) for seed in (1, 2, 3)}
    values = {each.params["x"]: each.value for each in study_of(home).trials if each.params}
    assert values[2] == pytest.approx(-0.8)
    assert values[5] == pytest.approx(-1.8)
    answer = launcher("results", "r", "--best", "acc", "--columns", "x")
    assert answer.out == "x\n2\n"
    every = launcher("results", "r", "--format", "csv").out.splitlines()
    assert every[-1].startswith("3,incomplete,2,")
    assert "2 of 3 seeds, 1 failed" in every[-1]
    for words in (("--sort", "-acc"), ("--best", "acc", "--top", "9")):
        rows = launcher.json("results", "r", *words)["rows"]
        assert [row["x"] for row in rows] == [2, 5, 3]
    marks = launcher.json("results", "r", "--metric", "acc")["values"]
    assert [each.get("note") for each in marks] == [*[None] * 6, *["incomplete"] * 2]
    assert search_of(store).progress["incomplete"] == 1
    assert "1 row was left out of the best: 1 has a failed or missing value" in answer.err
    first = next(trial for trial in trials_of(store) if trial.values["x"] == 2)
    assert f"to repeat the best trial (job {first.job}): python fit.py --x=2" in answer.err
    mean = {"acc": pytest.approx(-0.8)}
    best = {"trial": first.number, "job": first.job, "values": mean}
    assert search_of(store).progress["best"] == [best]
    page = result_table(read_runs(home, [search_of(store).run_id]).comparison, means=True)
    assert [page.rows[-1].cells[at].text for at in range(3)] == [
        "3",
        "incomplete",
        "2 of 3 seeds, 1 failed",
    ]
    assert [any(cell.best for cell in row.cells[3:4]) for row in page.rows] == [True, False, False]
    (charts,) = search_charts(store, search_of(store).run_id)
    assert max(value for _, value in charts.plots[0].lines[0].points) == pytest.approx(-0.8)


def test_retried_seeds_of_an_ended_search_count_again_once_all_have_the_same_settings(
    add: Add, launcher: Launcher, program: Callable[[str], None], store: Store
) -> None:
    program(f"if x == 3 and seed == 3 and 'mode' not in words: sys.exit(1)\n{QUICK}")
    add("--trials", "2", "--repeat", "seed=1..3", space="x=2,3")
    launcher("wait", "run:r", "--timeout", LIMIT)

    def retry(seeds: list[int], *, incomplete: int, x: int, acc: float) -> None:
        for seed in seeds:
            (job,) = (
                row.job
                for row in trials_of(store)
                if (row.values["x"], row.repeat) == (3, seed - 1)
            )
            words = f'["python", "fit.py", "--x=3", "--seed={seed}", "--mode=ok"]'
            launcher.well("retry", str(job), "--force", "--set", f"argv={words}")
        launcher("wait", "run:r", "--timeout", LIMIT)
        until(lambda: store.searches.active_numbers() == [], "the search counts again")
        progress: Any = search_of(store).progress
        assert progress["incomplete"] == incomplete
        (best,) = progress["best"]
        assert best["values"] == {"acc": pytest.approx(acc)}
        (row,) = launcher.json("results", "r", "--best", "acc")["rows"]
        assert (row["x"], row["acc"]["value"]) == (x, pytest.approx(acc))

    def notes() -> list[tuple[Any, ...]]:
        rows = launcher.json("results", "r")["rows"]
        return [(row["x"], row.get("trial"), row["acc"].get("note")) for row in rows]

    assert search_of(store).progress["incomplete"] == 1
    retry([3], incomplete=1, x=2, acc=-0.8)
    query = "SELECT DISTINCT x FROM scores JOIN best ON row = best.model WHERE metric = 'acc'"
    assert launcher.json("query", query)["rows"] == [{"x": 2}]
    assert notes() == [
        (2, None, None),
        (3, "incomplete", "2 of 3 seeds, 1 with other settings"),
        (3, "incomplete", "1 of 3 seeds, 2 with other settings"),
    ]
    retry([1, 2], incomplete=0, x=3, acc=0.2)
    launcher.well("retry", str(trials_of(store)[0].job), "--force", "--set", "x=3.1")
    launcher("wait", "run:r", "--timeout", LIMIT)
    assert (trials_of(store)[-1].number, trials_of(store)[-1].values) == (2, {"x": 3.1})
    assert notes()[2:] == [(3.1, "incomplete", "1 of 3 seeds, 2 not queued")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trials", "2", "--sweep", "y="], "y: no values"),
        (["--trials", "2", "--sweep", "y=1..2,7"], "mixed"),
        (["--trials", "2", "--sweep", "y=0,1..0,2:log"], "Write y=0.1..0.2:log."),
        (["--trials", "2", "--sweep", "y=1,"], "a value is empty"),
        (["--trials", "2", "--sweep", "y=2..2"], "one value"),
        (["--trials", "2", "--sweep", "y=0..1:log"], "begins above 0"),
        (["--trials", "2", "--sampler", "grid"], "x has no step"),
        (["--trials", "2", "--sampler", "cmaes", "--sweep", "act=a,b"], "act is a list"),
        (["--trials", "2", "--repeat", "x=1..3"], "also in --sweep"),
        (["--trials", "2", "--repeat", "seed=1-3"], "Write seed=1..3"),
        (["--trials", "2", "--sweep", "y=1..9:ln"], "Write y=1..9 or y=1..9:log"),
        (["--trials", "2", "--sweep", "y=1e-4,0.0001"], "y: 1e-4 and 0.0001 are one value"),
        (["--trials", "2", "--sweep", "y=7,8,7"], "the value 7 is listed twice"),
        (["--trials", "2", "--sweep", "y=1e400..1"], "Write smaller numbers"),
        (["--trials", "2", "--sweep", "y=0..1e-7:log"], "Write y=1e-10..1e-7:log"),
        (["--trials", "2", "--sweep", "y=-2..-1:log"], "Remove :log"),
        (["--trials", "2", "--sweep", "y=1..2..0"], "Write a step above 0, at most 1"),
        (["--trials", "2", "--sweep", f"y={'v' * 300},w"], "the name of a job would have"),
        (["--trials", "2", "--output", "m.pt"], "several trials would write this file. Write {x}"),
        (["--trials", "2", "--sweep", "d=/,no", "--cwd", "{d}"], "cannot be part of a job name"),
        (["--trials", "2", "--sweep", "d=.,no", "--cwd", "{d}"], "--cwd no does not exist"),
        (["--trials", "2", "--sweep", "d=fit,no", "--input", "{d}.py"], "--input no.py does not"),
        ([], "number of trials is missing"),
        (["--trials", "2", "--hold"], "--hold cannot be combined"),
    ],
)
def test_bad_input_is_refused_with_the_reason(words: list[str], message: str, add: Add) -> None:
    answer = add(*words)
    assert answer.code == 2
    assert message in answer.err


@pytest.mark.parametrize(
    ("metric", "words", "message"),
    [
        ("acc,loss", ["--pruner", "median"], "cannot end trials early"),
        ("acc,loss", ["--sampler", "cmaes"], "one metric"),
        ("acc:up", [], "Write --search acc:min or --search acc:max."),
        ("acc,", [], "expected metrics"),
        ("acc,acc:min", [], "listed twice"),
        (
            "--trials",
            ["5"],
            "--search needs a metric before --trials. Write the metric after --search",
        ),
        ("acc,x", [], "Write --search acc,x:min or --search acc,x:max."),
        ("value", ["--dry-run"], "Write --search value:min or --search value:max."),
    ],
)
def test_metrics_that_do_not_fit_are_refused(
    metric: str, words: list[str], message: str, add: Add
) -> None:
    assert message in add("--trials", "2", *words, metric=metric).err


@pytest.mark.parametrize("option", ["trials=5", "sampler=random", "search-seed=1", "repeat=y=1..2"])
def test_options_of_a_search_are_refused_without_one_if_they_are_typed(
    option: str, launcher: Launcher, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    del home
    name, _, value = option.partition("=")
    words = ("--sweep", "x=1..2", "--dry-run", "--", "true", "{sweep}")
    message = f"--{name} belongs to a search. Add --search METRIC"
    assert message in launcher.refused("add", f"--{name}", value, *words)
    monkeypatch.setenv(f"LAUNCHER_ADD_{name.upper().replace('-', '_')}", value)
    launcher.well("add", *words)


def test_options_of_the_configuration_do_not_refuse_a_search(
    add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = {"PRUNER": "median", "SAMPLER": "cmaes", "REPEAT": "x=1..2", "SEARCH": "acc"}
    for name, value in defaults.items():
        monkeypatch.setenv(f"LAUNCHER_ADD_{name}", value)
    answer = add("--trials", "2", "--sweep", "y=a,b", "--dry-run", metric="acc,loss")
    assert (answer.code, "2 trials, 2 jobs" in answer.err) == (0, True)


def test_values_reach_the_program_as_typed_and_1_is_not_1_0() -> None:
    values = ["null", "None", "1", "1.0", "true", "1e-4", "007"]
    sought = program_search(
        SearchWords("acc", 20, sampler="grid"),
        [f"v={','.join(values)}"],
        ["amp"],
        "",
        ("fit", "{v}", "{amp}"),
        {},
        Terms(),
    )
    words = {spec.argv[1] for spec in sample_specs(sought.definition)}
    assert words == {*values}
    for sampler in ("grid", "tpe"):
        study = SearchStudy(sought.definition._replace(sampler=sampler), "s")
        asked = [study.ask(number)[0] for number in range(14)]
        assert len({(text_of(each["v"]), each["amp"]) for each in asked}) == 14
        with pytest.raises(Exhausted):
            study.ask(14)


def test_paths_are_named_by_their_last_parts_and_reach_the_program_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sought = program_search(
        SearchWords("acc", 4, sampler="grid", repeat="init=m/i.pt,i.pt"),
        ["d=a/x.csv,b/x.csv,none"],
        [],
        "fit",
        ("fit", "{sweep}"),
        {},
        Terms(),
    )
    named = {spec.name: spec.argv[1:] for spec in sample_specs(sought.definition)}
    assert named == {
        "command/fit@d=a-x.csv,init=m-i.pt": ("--d=a/x.csv", "--init=m/i.pt"),
        "command/fit@d=b-x.csv,init=m-i.pt": ("--d=b/x.csv", "--init=m/i.pt"),
        "command/fit@d=none,init=m-i.pt": ("--d=none", "--init=m/i.pt"),
        "command/fit@d=a-x.csv,init=i.pt": ("--d=a/x.csv", "--init=i.pt"),
    }
    monkeypatch.chdir(tmp_path)
    text = TASK.replace("TRIALS", "2").replace("{x: 0.0..10.0}", "{x: [a/x.csv, b/x.csv]}")
    (tmp_path / "t.yaml").write_text(text)
    (entry,) = plan(load("t.yaml")).searches
    whole = planned_search("t.yaml", text, (), 0, entry)
    _, job = plan_of_trial(whole, {"x": "b/x.csv", "seed": 2}, os.environ)
    assert (job.name, job.argv[-2]) == ("command/fit@x=b-x.csv,seed=2", "--x=b/x.csv")


def test_all_unknown_keys_of_a_search_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = TASK.replace("TRIALS", "2")
    wrong = {"metric:": "metrics:", "trials:": "trails:", "values:": "space:"}
    for right, word in wrong.items():
        text = text.replace(right, word)
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(TaskFileError) as found:
        plan(load("t.yaml"))
    hints = ["did you mean 'metric'?", "did you mean 'trials'?", ""]
    assert [each.hint for each in found.value.problems] == hints
    assert {each.message.split("'")[1] for each in found.value.problems} == {
        word[:-1] for word in wrong.values()
    }
    (tmp_path / "t.yaml").write_text(text := TASK.replace("TRIALS", "2"))
    (entry,) = plan(load("t.yaml")).searches
    for word in ("trials=5", "search.trials=5"):
        with pytest.raises(TaskFileError) as found:
            planned_search("t.yaml", text, [word], 0, entry)
        assert found.value.problems[0].hint == "change search: of an entry in the file"


def test_range_whose_end_is_between_two_steps_ends_before_it_in_one_sentence(
    add: Add, recwarn: pytest.WarningsRecorder
) -> None:
    answer = add("--trials", "9", "--sampler", "grid", "--dry-run", space="x=0.0..1.0..0.3")
    assert (
        "note: the values of x end at 0.9, because 1 is not a whole number of steps" in answer.err
    )
    assert not recwarn.list


def test_program_that_does_not_exist_is_warned_of(launcher: Launcher, home: Home) -> None:
    del home
    words = ("--search", "acc", "--trials", "2", "--sweep", "x=1..2", "--dry-run")
    for program in ("pyhton", "python"):
        answer = launcher("add", *words, "--", program, "no.py", "{sweep}")
        assert answer.err.startswith("warning: ")
        assert "The jobs will fail unless this is fixed before they start." in answer.err


@pytest.mark.parametrize(
    ("found", "broken", "message"),
    [
        ("2.10.1", None, "needs Optuna 5 or newer, and 2.10.1 is installed. Install it:"),
        ("5.0.0", ImportError("no numpy"), "which cannot be imported: ImportError: no numpy."),
    ],
)
def test_search_without_a_working_optuna_is_refused(
    found: str, broken: Exception | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_if_broken(_name: str) -> None:
        if broken is not None:
            raise broken

    monkeypatch.setattr(definition, "version", lambda _: found)
    monkeypatch.setattr(definition, "import_module", raise_if_broken)
    with pytest.raises(UsageError, match=re.escape(message)):
        definition.check_import()


def test_optuna_is_imported_before_a_search_is_queued_only_if_its_files_may_be_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported: list[str] = []
    monkeypatch.setattr(definition, "import_module", imported.append)
    definition.check_extra()
    assert imported == []
    hidden = spec_from_file_location("optuna", tmp_path / "optuna.py")
    monkeypatch.setattr(definition, "find_spec", lambda _: hidden)
    definition.check_extra()
    assert imported == ["launcher.experiments.search.study"]
    monkeypatch.setattr(definition, "version", lacking("sqlalchemy"))
    with pytest.raises(UsageError, match="cannot be imported: sqlalchemy is not installed"):
        definition.check_extra()


def lacking(missing: str) -> Callable[[str], str]:
    """Return a stand-in for `version` to which a package is not installed."""

    def version(name: str) -> str:
        if name == missing:
            raise PackageNotFoundError(name)
        return "5.0.0"

    return version


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": print}, "got the function 'print'. Save a script"),
        ({"words": "python fit.py {sweep}"}, "Write ['python', 'fit.py', '{sweep}']."),
        ({"direction": "maximize"}, "Write 'acc:max'."),
        ({"n_jobs": 4}, "Write parallel=4."),
        ({"sweep": {"x": (1e-5, 0.1)}}, "Write '1e-05..0.1:log' for a range, or [1e-05, 0.1]"),
        ({"sweep": {"x": {"min": 1, "max": 5}}}, "Write '1..5'."),
        ({"sweep": {"x": 3}}, "Write a range such as '1e-5..1e-1:log'"),
        ({"sweep": {"x": optuna.distributions.FloatDistribution(0.1, 0.9)}}, "Write '0.1..0.9'."),
        ({"sweep": {"x": ["a,b"]}}, "'a,b' cannot be part of a job name"),
        ({"repeat": {"x": "1..3"}, "sweep": {"x": "1..2"}}, "--repeat x: x is also in --sweep"),
        ({"repeat": {"x": [1, 2]}, "sweep": {"x": "1..2"}}, "--repeat x: x is also in --sweep"),
        ({"repeat": {"seed": (1e-5, 0.1)}}, "repeat: seed: (1e-05, 0.1) is not a range"),
        (
            {"repeat": [1, 2]},
            "repeat=[1, 2]: expected one name with its values. Write repeat='seed",
        ),
    ],
)
def test_calls_from_python_say_what_to_write(changes: dict[str, Any], message: str) -> None:
    call = {"words": ["fit", "{sweep}"], "metric": "acc", "trials": 2, "sweep": {"x": "1..2"}}
    with pytest.raises(UsageError, match=re.escape(message)):
        search(**{**call, **changes})


def test_program_that_uses_no_value_is_refused(launcher: Launcher, home: Home) -> None:
    del home
    words = ("--search", "acc", "--trials", "2", "--sweep", "x=1..5", "--", "true")
    assert "no argument uses x" in launcher.refused("add", *words)


def test_unknown_metric_ends_the_search_and_the_reason_is_kept(
    add: Add, launcher: Launcher, program: Callable[[str], None], tmp_path: Path, store: Store
) -> None:
    program(
        f"if os.path.exists('{tmp_path}/m'): time.sleep(60)\nopen('{tmp_path}/m', 'w')\n{QUICK}"
    )
    add("--trials", "20", "--parallel", "1", metric="accc:max")
    reason = "no trial reported the metric 'accc'. The first one reported: acc, loss"
    for _ in range(2):  # while it runs, and later
        answer = launcher("wait", "run:r", "--timeout", LIMIT)
        assert (answer.code, f"the search of run 'r' failed: {reason}" in answer.err) == (1, True)
    (record,) = launcher.json("status")["searches"]
    assert (record["state"], record["has_failed"]) == ("ended", True)
    assert record["reason"].startswith(reason)
    for words in (("results", "r"), ("status", "run:r"), ("status", "--failed")):
        assert f"the search of run 'r' failed: {reason}" in launcher(*words).err
    for words in (("show", "run:r"), ("show", "r")):
        assert f"failed: {reason}" in launcher.well(*words).out
    ended = [row for row in store.read.jobs() if row.state is not State.DONE]
    assert {(row.state, row.reason) for row in ended} <= {(State.CANCELLED, "ended by its search")}
    for row in ended:
        assert reason in launcher.well("show", str(row.id)).out


def test_search_without_a_finite_value_has_failed(
    add: Add, launcher: Launcher, program: Callable[[str], None], store: Store
) -> None:
    program('print("launcher: acc=nan")')
    add("--trials", "2", space="x=1..2")
    answer = launcher("wait", "run:r", "--timeout", LIMIT)
    assert answer.code == 1
    assert "failed: no trial has a finite acc (2 trials)" in answer.err
    assert [row["trial"] for row in launcher.json("results", "r")["rows"]] == ["failed"] * 2
    (charts,) = search_charts(store, search_of(store).run_id)
    assert charts.state == "failed"


def test_search_whose_program_cannot_start_names_the_failure(
    launcher: Launcher, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    del home
    words = ("--sweep", "x=1..2", "--", "./no where.sh", "{sweep}")
    launcher.well("add", "--run", "r", "--search", "acc", "--trials", "2", *words)
    err = launcher("wait", "run:r", "--timeout", LIMIT).err
    assert (
        "failed: no trial has a finite acc (2 trials). Job 1 failed: cannot start './no where.sh'"
        in err
    )
    assert "'./no where.sh' {sweep}" in launcher.well("show", "r").out
    found = Search(1, "r", "")
    capsys.readouterr()
    assert found.wait()
    assert "failed: no trial has a finite acc" in capsys.readouterr().err
    assert found.best() == []
    assert "failed: no trial has a finite acc" in capsys.readouterr().err


def test_search_whose_optuna_was_removed_ends_with_the_reason(
    add: Add, home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "launcher.frontends.cli.searches.ensure_scheduler_with_note", lambda _: None
    )
    add("--trials", "2")
    monkeypatch.setattr(definition, "version", lambda _: "2.10.1")
    monkeypatch.setattr("sys.argv", ["search", str(home.folder), str(search_of(store).id), "0"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("launcher.experiments.search", run_name="__main__")
    assert left.value.code == 0
    found = search_of(store)
    assert (found.failed, "needs Optuna 5 or newer" in found.reason) == (True, True)


@pytest.mark.parametrize("is_running", [False, True])
def test_job_that_its_search_ends_is_not_cancelled_by_its_owner(
    is_running: bool, store: Store
) -> None:
    job = one(store)
    claim = claimed(store, job) if is_running else None
    store.job_control.cancel([job], 2.0, by_search=True)
    if claim is not None:
        assert job_row(store, job).reason.startswith("ending: ended by its search")
        end(store, claim, STOPPED)
    row = job_row(store, job)
    assert (row.state, row.reason) == (State.CANCELLED, "ended by its search")
    assert row.state_reason.code is ReasonCode.SEARCH_ENDED


def test_search_is_continued_with_other_ranges_and_refused_with_another_metric(
    add: Add, launcher: Launcher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shutil.which("python")
    add("--trials", "2")
    launcher.well("wait", "run:r", "--timeout", LIMIT)
    assert "has 2 trials already" in add("--trials", "2").err
    assert "another metric" in add("--trials", "4", metric="loss").err
    assert "another sampler" in add("--trials", "4", "--sampler", "random", "--dry-run").err
    dry = add("--trials", "5", "--dry-run")
    assert (dry.out, "3 trials after 2 earlier ones, 3 jobs" in dry.err) == ("", True)
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    Path("src").mkdir()
    Path("fit.py").rename("src/fit.py")
    moved = ("--name", "fit", "--search", "acc", "--trials", "4", "--sweep", "x=20.0..21.0")
    program = ("--", "python", "src/fit.py", "{sweep}")
    assert launcher("add", "--run", "r", *moved, *program).out.startswith("continued")
    launcher.well("wait", "run:r", "--timeout", LIMIT)
    values = [float(str(trial.values["x"])) for trial in trials_of(store)]
    assert (len(values), [value >= 20 for value in values]) == (4, [False, False, True, True])
    used = [store.read.context_of(trial.job).programs["python"] for trial in trials_of(store)]
    assert used == [before, before, f"{tmp_path}/python", f"{tmp_path}/python"]
    (charts,) = search_charts(store, search_of(store).run_id)
    axis = charts.coordinates.axes[0]
    assert (axis.top, axis.bottom) == ("21", chart.number(min(values)))  # also of earlier trials
    monkeypatch.setattr("launcher.frontends.web.search_charts.MOST_LINES", 3)
    (cut,) = search_charts(store, search_of(store).run_id)
    assert (len(cut.coordinates.lines), cut.coordinates.lines_left) == (3, 1)
    Path("fit.py").write_text("")
    assert "another program" in add("--trials", "9").err


def test_continued_search_ends_if_its_first_new_trials_fail(
    add: Add, launcher: Launcher, store: Store
) -> None:
    add("--trials", "1", space="x=1..40")
    launcher.well("wait", "run:r", "--timeout", LIMIT)
    Path("fit.py").unlink()
    add("--trials", "30", "--parallel", "2", space="x=1..40")
    answer = launcher("wait", "run:r", "--timeout", LIMIT)
    assert "failed: the first 5 trials after it was continued failed" in answer.err
    assert len(trials_of(store)) < 10


def test_metric_that_is_null_ends_the_search_with_this_reason() -> None:
    assert "reported null for the metric 'auc'" in definition.close_metric("auc", ["acc"], {"auc"})


def test_run_with_a_search_is_cancelled_paused_and_not_cleaned_meanwhile(
    add: Add, launcher: Launcher, program: Callable[[str], None], store: Store
) -> None:
    program(f"time.sleep(0 if x < 5 else 60)\n{QUICK}")
    add("--trials", "10", "--parallel", "1", "--sampler", "grid", space="x=0..9")
    until(lambda: any(each.state is State.DONE for each in trials_of(store)), "one is done")
    until(lambda: any(each.state is State.RUNNING for each in trials_of(store)), "one runs")
    assert launcher("clean", "run:r", "--yes").code == 2
    assert "paused" in launcher.well("hold", "run:r").out
    assert search_of(store).state == "paused"
    assert launcher("wait", "run:r", "--timeout", "0.1s").code == 3
    launcher.well("release", "run:r")
    launcher.well("cancel", "run:r", "--yes")
    launcher("wait", "run:r", "--timeout", LIMIT)
    assert (search_of(store).state, search_of(store).reason) == ("ended", "cancelled by its owner")
    assert not store.read.open_jobs()


def test_dry_run_shows_the_first_values_and_queues_nothing(add: Add, store: Store) -> None:
    answer = add("--trials", "30", "--dry-run")
    lines = answer.out.splitlines()
    assert len(lines) == 5
    assert all("python fit.py --x=" in line for line in lines)
    assert "30 trials, 30 jobs; cost: unknown" in answer.err
    assert store.searches.all() == []
    add("--trials", "1")
    until(lambda: bool(trials_of(store)), "the first trial")
    assert lines[0].partition("\t")[0] == store.read.jobs()[0].name
    assert read_definition(search_of(store).body).trials == 1


def test_results_of_several_metrics_name_the_command_that_lists_the_best_trials(
    launcher: Launcher, store: Store
) -> None:
    spec = a_spec(name="command/fit@x=1")
    objectives = (Objective("acc", lower=False), Objective("loss", lower=True))
    sought = SearchDefinition(objectives, {"x": Choice((1, 2))}, 2, spec=spec)
    commit_search(store, current_context(os.environ), SearchRequest("command/fit", sought))
    (job,) = enqueue(store, spec)
    finished(store, job, Done(at=2.0, result={"acc": 1, "loss": 2}))
    assert launcher.well("results", "test").err == (
        "note: a search has several metrics. To list the trials of which none is better in each: "
        "launcher show run:test\n"
    )


def test_several_metrics_have_a_front_and_one_metric_the_first_of_equal_trials() -> None:
    ends = [
        EndedTrial(number, PRUNED if number == 3 else COMPLETE if results else FAILED, results)
        for number, results in enumerate([(1.0, 1.0), (2.0, 2.0), (1.0, 3.0), (9.0, 0.0), ()])
    ]
    both = (Objective("acc", lower=False), Objective("loss", lower=True))
    assert [each.number for each in best_trials(ends, both)] == [0, 1]
    equal = [
        EndedTrial(number, UNSTABLE if value == 0 else COMPLETE, (value,))
        for number, value in enumerate([2.0, 1.0, 1.0, 0.0])
    ]
    standing = standing_of(equal, both[1:], 9, running_count=1, mean_s=None)
    assert [each.number for each in standing.best] == [1]
    row = SearchRow(1, 1, "r", "", "", SearchState.ENDED, "", failed=False, body="", progress={})
    record = standing_record(standing, both[1:], {1: 7}, {})
    assert best_text(row._replace(progress=record)) == "loss=1 (job 7) and 1 more"


def test_lists_begin_with_open_and_failed_searches_and_count_the_others() -> None:
    row = SearchRow(1, 1, "r", "", "", SearchState.ENDED, "", failed=False, body="", progress={})
    bad, new = row._replace(id=2, failed=True), row._replace(id=3)
    opened = row._replace(id=4, state=SearchState.RUNNING)
    assert [each.id for each in sort_searches([row, bad, new, opened])] == [4, 2, 3, 1]
    (note,) = search_table([opened], [bad, new, row]).notes
    assert note.text == (
        "… and 3 more searches that ended, 1 of them failed. List all: launcher status --json. "
        "List failed searches: launcher status --failed"
    )


def a_row(state: State, code: str = "", **changes: Any) -> TrialRow:
    return TrialRow(0, 0, 1, "{}", "{}", 0, state, code, 1, 0.0, 5.0)._replace(**changes)


GOOD, BAD = JobResult((0.5,)), JobResult(None)
ENDS: dict[str, tuple[TrialRow, JobResult | None]] = {
    "good": (a_row(State.DONE), GOOD),
    "better": (a_row(State.DONE), JobResult((0.7,))),
    "nan": (a_row(State.DONE), BAD),
    "crash": (a_row(State.FAILED, "failed"), None),
    "slow": (a_row(State.FAILED, "time-limit"), None),
    "lost": (a_row(State.FAILED, "lost"), None),
    "cancelled": (a_row(State.CANCELLED, "cancelled"), None),
    "skipped": (a_row(State.SKIPPED, "need-failed"), None),
    "pruned": (a_row(State.DONE, "pruned"), GOOD),
}


@pytest.mark.parametrize(
    ("seeds", "outcome", "mean", "of_study"),
    [
        ("good better", COMPLETE, (0.6,), (0.6,)),
        ("better nan good", UNSTABLE, (0.6,), (0.2,)),
        ("better crash crash", UNSTABLE, (0.7,), (0.2,)),
        ("good slow cancelled", UNSTABLE, (0.5,), (0.2,)),
        ("crash nan", FAILED, (), ()),
        ("crash lost", FAILED, (), ()),
        ("good cancelled", UNKNOWN, (0.5,), ()),
        ("good lost skipped", UNKNOWN, (0.5,), ()),
        ("cancelled", UNKNOWN, (), ()),
        ("pruned", PRUNED, (0.5,), (0.5,)),
    ],
)
def test_trial_with_a_failed_seed_counts_as_the_worst_one_until_then(
    seeds: str, outcome: TrialOutcome, mean: tuple[float, ...], of_study: tuple[float, ...]
) -> None:
    rows, results = [], {}
    for job, word in enumerate(seeds.split()):
        row, result = ENDS[word]
        rows.append(row._replace(job=job, repeat=job))
        if result is not None:
            results[job] = result
    end = end_of(rows, results)
    assert end.outcome is outcome
    assert end.results == pytest.approx(mean)
    acc = (Objective("acc", lower=False),)
    others = [
        EndedTrial(1, COMPLETE, (0.2,), ended=4.0),
        EndedTrial(2, COMPLETE, (0.1,), ended=6.0),  # later
        EndedTrial(3, UNSTABLE, (0.0,), ended=4.0),
        EndedTrial(4, PRUNED, (0.0,), ended=4.0),
    ]
    assert results_for_study(end, others, acc) == pytest.approx(of_study)
    if outcome is UNSTABLE:
        assert results_for_study(end, others[1:], acc) == ()
        worse = end._replace(results=(0.1,))
        assert results_for_study(worse, others, acc) == (0.1,)


def test_steps_that_are_not_finite_are_the_worst_ones() -> None:
    values = {2: math.nan, 1: math.inf, 3: 0.5, 4: -math.inf, 5: None}
    assert steps_for_study(values, lower=True) == [(1, math.inf), (2, math.inf), (3, 0.5)]
    assert steps_for_study(values, lower=False) == [(2, -math.inf), (3, 0.5), (4, -math.inf)]


@pytest.mark.parametrize(
    ("steps", "others", "pruned"),
    [
        ([math.inf, math.inf], [3.0, 2.0], True),
        ([math.inf, math.inf], [math.inf, 2.0], True),
        ([math.inf, math.inf], [math.inf, math.inf, 2.0], False),  # no program has a number there
        ([math.inf, math.inf], [], False),
        ([math.inf], [3.0], False),
        ([math.inf, 9.0], [3.0, 2.0], False),
    ],
)
def test_trial_without_a_finite_step_is_pruned_first(
    steps: list[float], others: list[float], pruned: bool
) -> None:
    space = {"x": Choice((1, 2))}
    study = SearchStudy(SearchDefinition((Objective("loss", lower=True),), space, 9), "s")
    for number, values in enumerate((others, steps)):
        record = TrialRecord(number, {"x": number + 1}, {}, 0.0)
        study.add(record._replace(steps=[*enumerate(values, 1)]))
    assert study.should_prune(1) is pruned


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_trial_without_a_finite_number_has_failed(number: float) -> None:
    objectives = (Objective("acc", lower=False),)
    assert read_values(objectives, {"acc": number}).values is None
    assert read_values(objectives, {"acc": 1.0}).values == (1.0,)
    assert read_values(objectives, {"loss": 1.0}).missing == "acc"


def test_chart_of_a_search_and_the_curves_of_its_metric_are_two_charts(
    add: Add,
    launcher: Launcher,
    program: Callable[[str], None],
    store: Store,
    tmp_path: Path,
) -> None:
    program(f'print(f"launcher: step=1 total=1 acc={{x}}")\n{QUICK}')
    add("--trials", "2")
    launcher.well("wait", "run:r", "--timeout", LIMIT)
    address = f"runs/{search_of(store).run_id}"
    with served(tmp_path) as page:
        until(lambda: page.get(address).text.count('data-key="') == 2, "the curves are read")
        html = page.get(address).text
    for attribute in ("data-key", "id"):
        names = re.findall(rf' {attribute}="([^"]+)"', html)
        assert len(names) == len({*names})


@pytest.mark.night
def test_page_of_a_run_draws_its_search(
    add: Add, launcher: Launcher, store: Store, tmp_path: Path
) -> None:
    add("--trials", "12", "--parallel", "2", space="x=0..20")
    launcher.well("wait", "run:r", "--timeout", LIMIT)
    (charts,) = search_charts(store, search_of(store).run_id)
    best = [value for _, value in charts.plots[0].lines[0].points]
    assert best == sorted(best)
    assert [name for name, _ in charts.importance] == ["x"]
    assert len(charts.coordinates.lines) == 12
    with served(tmp_path) as page:
        html = page.get(f"runs/{search_of(store).run_id}").text
    assert "Parallel coordinates" in html
    assert html.count("<polyline") == 12


TASK = """
name: tuned
command:
- {name: prep, argv: ["true"]}
- name: fit
  argv: [python, fit.py, "{sweep}"]
  after: prep
  search: {metric: acc, trials: TRIALS, parallel: 2, values: {x: 0.0..10.0}, repeat: {seed: [1, 2]}}
"""


def test_search_of_a_task_file_queues_trials_with_the_jobs_that_they_need(
    launcher: Launcher, program: Callable[[str], None], tmp_path: Path, store: Store
) -> None:
    del program
    (tmp_path / "t.yaml").write_text(TASK.replace("TRIALS", "3"))
    dry = launcher.well("run", "t.yaml", "--dry-run")
    assert dry.out.count("  x=") == 3
    ended = launcher.well("run", "t.yaml").err
    best = launcher.json("results", "tuned", "--best", "acc")["rows"][0]["acc"]["value"]
    assert f"the search of run 'tuned' ended: 3 trials. Best trial: acc={best:.4g} (job" in ended
    jobs = {row.name: row.state for row in store.read.jobs()}
    assert (len(jobs), {*jobs.values()}) == (7, {State.DONE})
    programs = store.searches.context(search_of(store).id).programs
    assert programs == {name: shutil.which(name) for name in ("true", "python")}
    assert "done before" in launcher.well("run", "t.yaml").err
    done = launcher.well("run", "t.yaml", "--dry-run").out
    assert "3 trials × 2 seeds, tpe: done before" in done
    assert "first values" not in done
    (tmp_path / "t.yaml").unlink()
    (tmp_path / "u.yaml").write_text(TASK.replace("TRIALS", "4"))
    assert "1 further trial" in launcher.well("run", "u.yaml", "--dry-run").out
    assert "continued: search" in launcher.well("run", "u.yaml").err
    rows = launcher.json("results", "tuned")["rows"]
    assert [row["count"] for row in rows] == [2, 2, 2, 2]
    assert not any("removed" in row for row in rows)


@pytest.mark.parametrize("changed", ["fit.py, -v,", "fit.py,"])
def test_refused_search_of_a_task_file_leaves_nothing_in_the_queue(
    changed: str,
    launcher: Launcher,
    program: Callable[[str], None],
    tmp_path: Path,
    store: Store,
) -> None:
    del program
    text = TASK.replace("TRIALS", "3")
    (tmp_path / "t.yaml").write_text(text)
    launcher.well("run", "t.yaml")
    metric = "acc" if "-v" in changed else "loss"
    text = text.replace("fit.py,", changed).replace("metric: acc", f"metric: {metric}")
    (tmp_path / "t.yaml").write_text(text.replace("trials: 3", "trials: 4").replace("prep", "new"))
    for more in (["--dry-run"], []):
        answer = launcher("run", "t.yaml", *more)
        assert answer.code == 2
        assert f"has another {'program' if '-v' in changed else 'metric'}" in answer.err
    assert "command/new" not in {row.name for row in store.read.jobs()}


LAB = """
name: lab
defaults: {data_root: data, split_path: data/splits, model: slim18, weights: none}
sample: [{train: 8, val: 4, test: 4, size: 32}]
train:
- {model: null, data: "gan2:pre", search: {metric: METRIC, trials: 5, values: {lr: 1e-4..1e-2:log}}}
autotest: ["gan2:pre"]
"""


def test_search_of_the_lab_varies_trainings_by_a_validation_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = LAB.replace("METRIC", "val_loss")
    (tmp_path / "lab.yaml").write_text(text)
    (entry,) = plan(load("lab.yaml")).searches
    whole = planned_search("lab.yaml", text, (), 0, entry)
    made, job = plan_of_trial(whole, {"lr": 0.002}, os.environ)
    assert job.settings["lr"] == 0.002
    assert [each.kind for each in made.jobs] == ["sample", "train"]
    (note,) = [each for each in plan(load("lab.yaml")).warnings if each.code == "no-models"]
    assert note.message == "autotest does not test the trials of the search in line 6"
    assert not [each for each in made.warnings if each.code == "no-models"]
    text = text.replace("val_loss", "auc")
    (tmp_path / "lab.yaml").write_text(text)
    (entry,) = plan(load("lab.yaml")).searches
    with pytest.raises(UsageError, match="'auc' is not a validation number"):
        planned_search("lab.yaml", text, (), 0, entry)
    entry = entry._replace(words={**entry.words, "metric": "val_x"})
    with pytest.raises(UsageError, match=r"Write metric: val_x:min or metric: val_x:max\.$"):
        planned_search("lab.yaml", text, (), 0, entry)
    wrong: list[tuple[dict[str, Json], str]] = [
        ({"lr": "loguniform(1e-4, 1e-2)"}, r"Write lr: 1e-4\.\.1e-2:log"),
        ({"lr": None}, r"lr: no values\. Write lr: LOW\.\.HIGH"),
        ({"batch_size": [8, None]}, "expected numbers and words, got null"),
        ({"batch_size": [8, "many"]}, "batch_size"),
    ]
    for values, said in wrong:
        words: dict[str, Json] = {**entry.words, "metric": "val_loss", "values": values}
        with pytest.raises((UsageError, TaskFileError), match=said):
            planned_search("lab.yaml", text, (), 0, entry._replace(words=words))
    for metric, said in (
        ("val_los:min", "unknown metric of train jobs 'val_los' .*Did you mean 'val_loss'"),
        (
            "val_x:max",
            "unknown metric of train jobs 'val_x' .*val_accuracy, val_balanced_accuracy, val_loss",
        ),
    ):
        named = entry._replace(words={**entry.words, "metric": metric})
        with pytest.raises(UsageError, match=said):
            planned_search("lab.yaml", text, (), 0, named)
    with pytest.raises(UsageError, match=r"Write metric='x:min' or metric='x:max'\.$"):
        search(["true", "{sweep}"], "x", trials=1, sweep={"x": [1, 2]})


def test_search_of_the_lab_is_the_same_with_other_code_and_another_one_with_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    monkeypatch.chdir(tmp_path)

    def planned(*changes: tuple[str, str]) -> SearchRequest:
        text = LAB.replace("METRIC", "val_loss").replace("lr: 1e-4", "learning_rate: 1e-4")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "lab.yaml").write_text(text)
        (entry,) = plan(load("lab.yaml")).searches
        whole = planned_search("lab.yaml", text, (), 0, entry)
        assert whole.spec is not None
        return SearchRequest(whole.spec.name, whole)

    row, _ = commit_search(store, current_context(os.environ), planned())
    same = planned()
    assert same.definition.spec is not None
    spec = same.definition.spec._replace(hash="of other code", signature="of other code")
    assert find_same(store, same._replace(definition=same.definition._replace(spec=spec))) == row
    more, further = ("trials: 5", "trials: 6"), ("1e-4..1e-2", "1e-3..1e-2")
    assert find_same(store, planned(more)) is None
    assert find_continued(store, planned(more, further)) == row
    with pytest.raises(UsageError, match="write more trials, such as trials: 10"):
        find_continued(store, planned(further))
    with pytest.raises(UsageError, match="another setting num_epochs: 100, not 3"):
        find_continued(store, planned(more, ("weights: none", "weights: none, num_epochs: 3")))


@pytest.mark.night
def test_search_in_python_waits_and_returns_the_best_trial(
    program: Callable[[str], None],
    launcher: Launcher,
    home: Home,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del program, launcher, home
    found = search(
        ["python", "fit.py", "{sweep}"],
        "acc",
        trials=4,
        run="r",
        sweep={"x": [1, 2, 3, 4]},
        metrics="m.csv",
    )
    assert "and add metrics='{job_folder}/m.csv'" in capsys.readouterr().err
    assert found.wait(DEADLINE_S)
    (best,) = found.best()
    assert (best["values"], best["params"]) == ({"acc": 0.0}, {"x": 3})
    assert sorted(trial["x"] for trial in found.trials()) == [1, 2, 3, 4]
