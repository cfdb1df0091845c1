"""`launcher simulate` as a person meets it."""

import base64
import json
import multiprocessing
import os
import re
import signal
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from launcher.experiments.planning.estimates import RuntimeHistory
from launcher.frontends.simulate import baselines
from launcher.frontends.simulate.baselines import POLICIES, Study, draw_study, run_study
from launcher.frontends.simulate.machine import (
    JobSpan,
    PolicyResult,
    Workload,
    parse_cluster,
    select_feasible,
)
from launcher.frontends.simulate.memory_claims import MEMORY_SIZES_TEXT, draw_memory
from launcher.frontends.simulate.picture import MOST_BARS, bar_places, draw_timeline, queue_lengths
from launcher.frontends.simulate.planned_jobs import trace_from_plans
from launcher.frontends.simulate.trace import TraceJob, read_trace
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.queue.store.usage import NO_USAGE, Usage
from launcher.system.errors import JobError, MachineError
from launcher.system.installation import install_command
from tests.build import reaches
from tests.launcher.conftest import Launcher, home, launcher, store
from tests.launcher.plans import KINDS, a_history, a_plan, done_before, some_commands
from tests.launcher.simulate.worlds import GIB, PHILLY, a_fleet, a_job, assuming, needs_traces

__all__ = ["home", "launcher", "store"]  # fixtures


GOLDEN = Path(__file__).parents[2] / "data" / "golden"


TRACE = """\
submit_s,duration_s,gpus,vc,vram
0,3600,1,a,13GiB
60,7200,2,a,6GiB
120,600,1,b,3GiB
180,5400,1,b,8GiB
240,300,3,c,4GiB
300,300,1,c,40GiB
"""


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "jobs.csv"
    path.write_text(TRACE)
    return str(path)


def a_study(**changes: Any) -> Study:
    """Return the results for jobs of which a few can never fit. No policy runs."""
    rows = [
        ("launcher", 0.9971, 54.3, 0.0, 26_620.0, 9_409_800.0),
        ("fifo", 0.668, 238_068.5, 390_031.0, 502_844.0, 9_584_200.0),
        ("sjf", None, 8_470.0, 31_046.4, 4_445_650.0, 9_408_690.0),
    ]
    return Study(
        assumptions=assuming(
            a_fleet(560), **{"memory": f"drawn with seed 7: {MEMORY_SIZES_TEXT}", **changes}
        ),
        workload=Workload(
            jobs=tuple(map(a_job, range(1234))), too_many_gpus=1289, too_much_vram=3, orphaned=2
        ),
        outcomes=tuple(
            PolicyResult(
                policy=policy,
                utilisation=used,
                wait_mean_s=mean,
                wait_p95_s=p95,
                wait_longest_s=longest,
                wait_max_wide_s=longest,
                slowdown_mean=12.5,
                turnaround_mean_s=mean + 3600.0,
                makespan_s=makespan,
            )
            for policy, used, mean, p95, longest, makespan in rows
        ),
        lower_bound=9_408_675.0,
        spans={},
    )


@pytest.mark.parametrize("width", [80, 100])
def test_table_shows_the_result_of_each_policy(width: int) -> None:
    text = draw_study("night.csv", a_study(load=2.0), width=width)
    assert text + "\n" == (GOLDEN / f"simulate-{width}.txt").read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= width


def test_assumptions_are_printed_in_words() -> None:
    text = " ".join(draw_study("a", a_study(most=3, all_at_once=True), width=100).split())
    assert "up to 3 jobs share a GPU, and each of n jobs takes 1.5^(n-1) times as long" in text
    assert text.endswith("all jobs are submitted at once")
    assert "no two jobs share a GPU" in draw_study("a", a_study(most=1), width=200)


def test_trace_is_replayed(launcher: Launcher, trace: str) -> None:
    answer = launcher.well("simulate", trace, "--gpus", "2x24GiB")
    lines = answer.out.splitlines()
    assert lines[0] == "4 jobs of jobs.csv on 2x24GiB"
    assert [line.split()[0] for line in lines[3:9]] == [
        "launcher",
        "fifo",
        "sjf",
        "easy",
        "first-fit",
        "lower",
    ]
    assert lines[10] == (
        "Left out: 1 job requesting more than 2 GPUs, 1 job requesting more memory than these GPUs have"
    )
    assert answer.err == ""


def test_json_output_has_all_numbers_and_all_assumptions(launcher: Launcher, trace: str) -> None:
    words = ["simulate", trace, "--gpus", "2x24GiB", "--slowdown", "1.5", "--load", "2"]
    record = launcher.json(*words)
    assert {key: record[key] for key in ("schema", "jobs", "dropped")} == {
        "schema": 1,
        "jobs": 4,
        "dropped": 2,
    }
    assert record["dropped_because"] == {
        "too_many_gpus": 1,
        "too_much_memory": 1,
        "needs_dropped": 0,
    }
    assert [one["policy"] for one in record["policies"]] == [
        "launcher",
        "fifo",
        "sjf",
        "easy",
        "first-fit",
    ]
    for one in record["policies"]:
        assert {*one} >= {"utilisation", "wait_mean_s", "wait_p95_s", "makespan_s"}
        assert one["makespan_s"] >= record["lower_bound_s"]
    assert record["assumptions"] == {
        "gpus": "2x24GiB",
        "slowdown": 1.5,
        "slowdown_rule": "each of n jobs on a GPU takes slowdown ** (n - 1) times as long",
        "max_per_gpu": 2,
        "forecast": "learned",
        "load": 2.0,
        "all_at_once": False,
        "memory": "as in the trace",
        "memory_is": "known",
        "reserve_bytes": 0,
        "baseline_bytes": 0,
        "users": False,
        "jobs_of_others": 0,
        "durations": "as in the trace",
        "seed": None,
    }


def test_sampled_memory_names_its_seed(launcher: Launcher, tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("submit_s,duration_s,gpus\n" + "0,10,1\n" * 20)
    words = ["simulate", str(path), "--gpus", "2x24GiB", "--json", "--seed"]
    first, again, other = (launcher(*words, seed).out for seed in ("1", "1", "2"))
    assert first == again != other
    assumed = json.loads(other)["assumptions"]
    assert (assumed["seed"], assumed["memory"]) == (2, f"drawn with seed 2: {MEMORY_SIZES_TEXT}")
    same = launcher.json(*words, "2", "--vram", "22GiB")
    assert (same["assumptions"]["memory"], same["assumptions"]["seed"]) == ("22 GiB", None)
    assert same["policies"][0]["makespan_s"] == 100


def test_help_page_states_the_distribution(launcher: Launcher) -> None:
    assert MEMORY_SIZES_TEXT in " ".join(launcher("simulate", "--help").out.split())


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--gpus", "1x1GiB"], "none of 6 jobs fits on 1x1GiB"),
        (["--gpus", "2x24GiB", "--slowdown", "nan"], "expected a number from 1 to 10, got 'nan'"),
        (["--gpus", "2x24GiB", "--jobs", "0"], "expected a whole number of at least 1, got '0'"),
        (
            ["--gpus", "2x24GiB", "--max-per-gpu", "0"],
            "expected a whole number from 1 to 64, got '0'",
        ),
        (["--gpus", "2x24GiB", "--duration", "1h"], "--duration works only with task files"),
        (["--gpus", "2x24GiB", "--timeline", "/no/where.svg"], "cannot be written: no folder /no"),
    ],
)
def test_invalid_option_is_named(
    launcher: Launcher, trace: str, words: list[str], what: str
) -> None:
    answer = launcher("simulate", trace, *words)
    assert answer.code == 2
    assert what in " ".join(answer.err.split())
    assert answer.out == ""


# --- task files


def test_plan_is_replayed_with_its_dependencies_and_measurements() -> None:
    made = a_plan()
    trained = next(job for job in made.jobs if job.kind == "train")
    history = a_history(done_before(trained, 50.0, on_gpu=True), gpus=True)
    replayed = trace_from_plans([made, made], history, seconds=7.0, vram=5 * GIB)
    jobs = replayed.jobs
    assert len(jobs) == 2 * len(made.jobs)
    by_name = dict(zip([job.name for job in made.jobs], jobs, strict=False))
    for job in made.jobs:
        assert by_name[job.name].needs == tuple(by_name[need].index for need in job.needs)
    known = by_name[trained.name]
    assert (known.seconds, known.forecast) == (50.0, 50.0)
    assert {job.seconds for job in jobs if job.forecast is None} == {7.0}
    assert jobs[len(made.jobs) :][-1].needs[0] >= len(made.jobs), (
        "a second plan's needs are its own"
    )


def test_durations_are_those_of_jobs_of_this_queue_in_any_folder() -> None:
    made = a_plan()
    ran = [
        done_before(next(job for job in made.jobs if job.kind == kind), seconds, on_gpu=on_gpu)
        for kind, seconds, on_gpu in (("train", 50.0, True), ("test", 9.0, False))
    ]
    replayed = trace_from_plans([made], a_history(*ran, gpus=True), seconds=7.0, vram=5 * GIB)
    lasting = {job.group: job.seconds for job in replayed.jobs}
    assert (lasting["train"], lasting["test"], lasting["poison"]) == (50.0, 9.0, 7.0)
    assert replayed.describe() == (
        "7 s for 1 shapes job (--duration, because no shapes job has run here), "
        "50 s for 2 train jobs (median of 1 run here), "
        "9 s for 3 test jobs (median of 1 run here on the CPU), "
        "7 s for 1 poison job (--duration, because no poison job has run here), "
        "7 s for 1 unlearn job (--duration, because no unlearn job has run here)"
    )


def test_job_with_other_settings_takes_as_long_as_others_of_its_type() -> None:
    made = a_plan()
    trained = next(job for job in made.jobs if job.kind == "train")
    slower = trained._replace(settings={**trained.settings, "epochs": 90})
    before = [done_before(slower, seconds, on_gpu=False) for seconds in (30.0, 40.0, 80.0)]
    replayed = trace_from_plans([made], a_history(*before, gpus=True), seconds=7.0, vram=5 * GIB)
    lasting = {job.group: (job.seconds, job.forecast) for job in replayed.jobs}
    assert lasting["train"] == (40.0, None), "not 7 s; the scheduler itself knows nothing of it"
    assert (
        "40 s for 2 train jobs (median of 3 runs here on the CPU with other settings)"
        in replayed.describe()
    )


def test_no_job_of_a_task_file_takes_longer_than_its_time_limit() -> None:
    made = some_commands(", resources: {time_limit: 5s}")
    replayed = trace_from_plans(
        [made], RuntimeHistory((), KINDS, gpus=True), seconds=7.0, vram=5 * GIB
    )
    assert {job.seconds for job in replayed.jobs} == {5.0}
    assert "5 s for 1 command job, ended by their time limits (" in replayed.describe()


def test_measurements_of_similar_programs_count() -> None:
    made = some_commands(", resources: {gpus: 1}")

    def usage(signature: str, program: str = "", machine: str = "") -> Usage:
        known = signature == made.jobs[0].signature
        return Usage(seconds=(10.0, 30.0, 20.0)) if known else NO_USAGE

    history = RuntimeHistory((), KINDS, gpus=True, usage=usage)
    replayed = trace_from_plans([made], history, seconds=7.0, vram=5 * GIB)
    assert [job.seconds for job in replayed.jobs if job.gpus] == [20.0]


def test_repeated_job_takes_as_long_as_before(
    launcher: Launcher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "night.yaml"
    path.write_text("name: night\ncommand:\n  - {name: a, argv: ['true']}\n")
    silent = launcher("simulate", str(path), "--gpus", "1x24GiB").out
    assert (
        "Assumed: durations of 1 h for 1 command job (--duration, because no command job has run here);"
        in " ".join(silent.split())
    )
    launcher.well("run", str(path), "--detach")
    reaches(store, 1, State.DONE)
    told = launcher("simulate", str(path), "--gpus", "1x24GiB")
    assert re.search(
        r"Assumed: durations of \S+ s for 1 command job \(median of 1 run here\);",
        " ".join(told.out.split()),
    )


def test_task_file_is_replayed_and_not_queued(
    launcher: Launcher, store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "night.yaml"
    path.write_text(
        "name: night\n"
        "resources: {command: {vram: 10GiB}}\n"
        "command:\n" + "".join(f"  - {{name: c{at}, argv: [echo]}}\n" for at in range(4))
    )
    words = ["simulate", str(path), "--gpus", "1x24GiB", "--duration", "30m"]
    record = launcher.json(*words, "--slowdown", "1.5")
    assert record["jobs"] == 4
    spans = {one["policy"]: one["makespan_s"] for one in record["policies"]}
    assert spans == {
        # the first two share the card; then it is known that each is slowed too much by that
        "launcher": 2700.0 + 2 * 1800.0,
        "fifo": 7200.0,
        "sjf": 7200.0,
        "easy": 7200.0,
        "first-fit": 5400.0,
    }
    assert record["lower_bound_s"] == 5400.0
    assert record["assumptions"]["memory"] == "as declared or measured, otherwise 8 GiB"
    record = launcher.json(*words, "--slowdown", "1.2")
    spans = {one["policy"]: one["makespan_s"] for one in record["policies"]}
    assert spans["launcher"] == spans["first-fit"] == 2 * 2160.0
    assert not store.read.counts()


# --- the picture


def test_timeline_is_the_same_picture_each_time(
    launcher: Launcher, trace: str, tmp_path: Path
) -> None:
    pictures = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for picture in pictures:
        launcher.well("simulate", trace, "--gpus", "2x24GiB", "--timeline", str(picture))
    first, second = (picture.read_bytes() for picture in pictures)
    assert first == second
    assert "4 jobs of jobs.csv on 2x24GiB" in words(ET.fromstring(first))


def test_picture_command_names_the_missing_package(
    launcher: Launcher, trace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "launcher.frontends.simulate.picture", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = ["simulate", trace, "--gpus", "2x24GiB", "--timeline", str(tmp_path / "a.svg")]
    answer = launcher(*words)
    assert answer.code == MachineError.exit_code
    hint = install_command("plots")
    assert f"--timeline needs the package matplotlib. Install it: {hint}" in answer.err
    assert answer.out == "", "it is said before a long replay"


@needs_traces
def test_recorded_trace_meets_the_documented_bounds(launcher: Launcher) -> None:
    words = ["simulate", str(PHILLY), "--gpus", "64x24GiB", "--jobs", "600"]
    record = launcher.json(*words)
    ours, fifo = record["policies"][:2]
    assert ours["wait_mean_s"] * 2 <= fifo["wait_mean_s"]
    assert ours["wait_p95_s"] <= fifo["wait_p95_s"]


@needs_traces
@pytest.mark.night
def test_all_at_once_ends_near_the_lower_bound(launcher: Launcher) -> None:
    words = ["simulate", str(PHILLY), "--gpus", "560x24GiB", "--jobs", "2000", "--all-at-once"]
    record = launcher.json(*words)
    assert record["policies"][0]["makespan_s"] <= 1.05 * record["lower_bound_s"]


@needs_traces
@pytest.mark.night
def test_whole_trace_waits_half_as_long_as_first_come_first_served() -> None:
    fleet = a_fleet(560)
    workload = select_feasible(draw_memory(read_trace(PHILLY), 0), fleet)
    ours, fifo = run_study(workload, assuming(fleet), policies=("launcher", "fifo")).outcomes
    assert fifo.wait_mean_s / 86_400 == pytest.approx(2.755, abs=0.001)
    assert ours.wait_mean_s * 2 <= fifo.wait_mean_s
    assert ours.wait_p95_s <= fifo.wait_p95_s


# --- The picture of a replay: bars, curves, words, and that it is the same each time


SPACE = "{http://www.w3.org/2000/svg}"


def a_span(job: int, start: float, end: float, *cards: int, ready: float = 0.0) -> JobSpan:
    return JobSpan(job=job, ready=ready, start=start, end=end, cards=cards)


def a_busy_study(cards: int, jobs: int) -> Study:
    """Many short jobs on many cards."""
    asked = [a_job(at, 10.0 + at % 7, at=at / 10, gpus=1 + at % 3) for at in range(jobs)]
    fleet = a_fleet(cards)
    return run_study(select_feasible(asked, fleet), assuming(fleet), policies=("launcher", "fifo"))


def bars(root: ET.Element) -> list[ET.Element]:
    """The bars of all jobs."""
    groups = [group for group in root.iter(f"{SPACE}g") if "Poly" in group.attrib.get("id", "")]
    return [path for group in groups for path in group.iter(f"{SPACE}path")]


def words(root: ET.Element) -> set[str | None]:
    return {text.text for text in root.iter(f"{SPACE}text")}


def test_jobs_that_share_a_gpu_have_bars_of_their_own() -> None:
    spans = [a_span(0, 0, 10, 0), a_span(1, 5, 20, 0, 1), a_span(2, 10, 12, 0)]
    assert [(span.job, card, place) for span, card, place in bar_places(spans)] == [
        (0, 0, 0),
        (1, 0, 1),
        (1, 1, 0),
        (2, 0, 0),
    ]


def test_curve_shows_how_many_jobs_wait_at_each_time() -> None:
    spans = [
        a_span(0, 6, 10, 0, ready=1),
        a_span(1, 3, 10, 0, ready=2),
        a_span(2, 8, 8, 0, ready=8),
        a_span(3, 9.5, 10, 0, ready=6),
    ]
    times, lengths = queue_lengths(spans)
    assert times == [0, 1, 2, 3, 6, 6, 9.5]
    assert lengths == [0, 1, 2, 1, 0, 1, 0], "of what happens at once the starts come first"


def test_each_job_of_a_small_machine_has_a_bar_on_each_of_its_gpus() -> None:
    done = a_busy_study(8, 60)
    text = draw_timeline("night <&> $x_1$.csv", done)
    assert text == draw_timeline("night <&> $x_1$.csv", done)
    root = ET.fromstring(text)
    assert len(bars(root)) == sum(job.gpus for job in done.workload.jobs)
    assert "60 jobs of night <&> $x_1$.csv on 8x24GiB" in words(root)
    assert {"GPU", "waiting", "jobs on", "1 GPU", "2 GPUs", "3 to 4 GPUs"} <= words(root)
    assert any(word and word.startswith("fifo: at most ") for word in words(root))
    assert "minutes since the first submission" in words(root)
    assert not re.search(r"nan|inf\b", text)


def test_bars_narrower_than_a_line_are_drawn_as_an_image() -> None:
    spans = [a_span(0, at, at + 1.0, at % 3) for at in range(MOST_BARS + 1)]
    load = Workload((a_job(0),))
    done = Study(assuming(a_fleet(3)), load, (), 0.0, {"launcher": spans})
    root = ET.fromstring(draw_timeline("many.csv", done))
    assert not bars(root)
    (image,) = root.iter(f"{SPACE}image")
    data = image.attrib["{http://www.w3.org/1999/xlink}href"].removeprefix("data:image/png;base64,")
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert "hours since the first submission" not in words(root), "6,000 s are not three hours"
    assert "minutes since the first submission" in words(root)


@pytest.mark.parametrize("name", ["t.csv", "日本.csv"])
def test_world_of_zero_durations_has_a_picture(name: str) -> None:
    load = Workload((a_job(0, 0.0),))
    done = Study(assuming(a_fleet(1)), load, (), 0.0, {"launcher": [a_span(0, 0, 0, 0)]})
    assert f"1 job of {name} on 1x24GiB" in words(ET.fromstring(draw_timeline(name, done)))


# --- Policies that are replayed in several processes


def a_load() -> Workload:
    jobs = tuple(
        TraceJob(index=number, submitted=float(number), seconds=60.0, gpus=1, vram=8 * GIB)
        for number in range(12)
    )
    return select_feasible(jobs, parse_cluster("2x24GiB"))


def test_several_processes_yield_the_same_result_as_this_one() -> None:
    load, world = a_load(), assuming(parse_cluster("2x24GiB"))
    replayed: list[str] = []
    assert run_study(load, world) == run_study(load, world, replayed.append, processes=2)
    assert sorted(replayed) == sorted(POLICIES)


def test_exception_of_a_process_is_raised_here() -> None:
    world = assuming(parse_cluster("2x24GiB"))
    with pytest.raises(KeyError, match="no such policy"):
        run_study(a_load(), world, policies=("fifo", "no such policy"), processes=2)


def test_killed_process_is_reported_and_the_others_are_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = baselines._replay  # the work of a process is replaced

    def replay_or_die(asked: Any, policy: str) -> Any:
        if policy == "fifo":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)
        return original(asked, policy)

    monkeypatch.setattr(baselines, "_replay", replay_or_die)
    with pytest.raises(JobError, match="the process that replays the policy fifo was killed"):
        run_study(
            a_load(), assuming(parse_cluster("2x24GiB")), policies=("fifo", "sjf"), processes=2
        )
    assert not multiprocessing.active_children()
