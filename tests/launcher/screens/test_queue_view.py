"""What is drawn of a whole screen, as people see it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from launcher.frontends.screens import job_records
from launcher.frontends.screens.gpu_view import LEGEND
from launcher.frontends.screens.job_actions import ProposedChange, propose
from launcher.frontends.screens.job_details import facts_of, result_cells
from launcher.frontends.screens.job_records import expected_time, record_of
from launcher.frontends.screens.job_view import GpuMemoryUsage, job_views
from launcher.frontends.screens.queue_head import head
from launcher.frontends.screens.queue_view import (
    job_table,
    recent_table,
    running_table,
    snapshot_lines,
    waiting_table,
)
from launcher.frontends.screens.snapshots import QueueSnapshotReader
from launcher.queue.gpu.gpus_file import GpuStatus, write_gpu_status
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Resources, Terms
from launcher.queue.jobs.params import PARAMS, parse_options
from launcher.queue.jobs.signatures import program_signature
from launcher.queue.jobs.states import Done, Failed, ReasonCode, State
from launcher.queue.store.queue import Store
from launcher.queue.store.usage import NO_USAGE, MeasuredUsage, Usage
from launcher.queue.store.usage_records import UsageRecords
from launcher.queue.workers.progress.steps import ProgressReport
from launcher.system.files import Json
from launcher.system.terminal import in_ascii
from launcher.system.text_table import TextStyle, width_of
from tests.build import GIB, a_claim, a_spec, claimed, enqueue, job_row
from tests.launcher.conftest import Launcher
from tests.screens import NOW, a_busy_screen, a_line, an_idle_screen, texts_of
from tests.terminal import in_a_terminal

GOLDEN = Path(__file__).parents[2] / "data" / "golden"


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_screen_is_drawn_at_any_width(width: int) -> None:
    drawn = texts_of(snapshot_lines(a_busy_screen(), width))
    assert "\n".join([*drawn, ""]) == (GOLDEN / f"screen-{width}.txt").read_text()


@pytest.mark.parametrize("width", [1, 20, 40, 80, 81, 100, 120, 200, 400])
def test_no_line_is_longer_than_the_screen_is_wide(width: int) -> None:
    assert max(width_of(one.text) for one in snapshot_lines(a_busy_screen(), width)) <= width


def test_empty_queue_has_two_lines() -> None:
    drawn = texts_of(snapshot_lines(an_idle_screen(), 80))
    assert drawn[1:] == ["no jobs"]
    assert drawn[0].startswith("launcher  ~/.local/state/launcher  scheduler absent ")


def test_every_character_has_a_one_column_ascii_replacement() -> None:
    for one in snapshot_lines(a_busy_screen(), 120):
        assert in_ascii(one.text).count("?") == one.text.count("?")
        assert len(in_ascii(one.text)) == len(one.text)


@pytest.mark.parametrize(
    ("memory", "text"),
    [
        (GpuMemoryUsage(now=2 * GIB, peak=4 * GIB, requested=8 * GIB), "2.0 / 4.0 / 8.0"),
        (GpuMemoryUsage(now=2 * GIB, peak=4 * GIB, estimate=3 * GIB), "2.0 / 4.0 / ~3.0"),
        (GpuMemoryUsage(now=2 * GIB, peak=4 * GIB, exclusive=True), "2.0 / 4.0 / alone"),
        (GpuMemoryUsage(now=2 * GIB, peak=4 * GIB), "2.0 / 4.0 / –"),
    ],
)
def test_estimated_memory_is_marked(memory: GpuMemoryUsage, text: str) -> None:
    work = a_line(1, "train", State.RUNNING)._replace(memory=memory)
    (_, drawn) = running_table(an_idle_screen()._replace(running=(work,))).to_lines(100)
    assert f"{text} " in drawn.text


def test_line_has_the_number_of_its_job() -> None:
    about = [one.job for one in snapshot_lines(a_busy_screen(), 80) if one.job is not None]
    assert list(dict.fromkeys(about)) == [41, 42, 43, 44, 45, 46, 47, 48, 40, 39]
    assert about.count(44) > 2, "a long reason runs over several lines"


def test_repeated_reasons_are_left_out() -> None:
    drawn = "\n".join(texts_of(snapshot_lines(a_busy_screen(), 140)))
    assert drawn.count("behind job 44") == 1
    assert drawn.count("as above") == 1


def test_reason_shows_only_what_differs_from_the_line_above() -> None:
    free = "cuda:0 has 8.6 GiB free, of which 2 GiB is reserved for job 41"
    more = "waiting for 24 GiB of GPU memory"
    parts = (("waiting for 18 GiB of GPU memory", free), (more, free), (more, free), ("new", ""))
    notes = [": ".join(filter(None, both)) for both in parts]
    lines = [
        a_line(number, "train/a", State.QUEUED, note, need=need, situation=situation)
        for number, (note, (need, situation)) in enumerate(zip(notes, parts, strict=True))
    ]
    drawn = snapshot_lines(an_idle_screen()._replace(waiting=tuple(lines)), 140)[-4:]
    told = [one.text.partition("train/a")[2].split(maxsplit=1)[1] for one in drawn]
    assert told == [notes[0], f"{more}: as above", "as above", "new"]


def test_job_exceeding_its_request_is_marked() -> None:
    (marked,) = [one for one in snapshot_lines(a_busy_screen(), 140) if "▲" in one.text]
    assert marked.job == 42
    assert "18.0 / 19.0 / 18.0 ▲" in marked.text


@pytest.mark.parametrize(("ago_s", "left"), [(0, "10 s"), (4, "6 s"), (11, "–")])
def test_time_left_counts_from_the_last_report(ago_s: int, left: str) -> None:
    step = ProgressReport(at=NOW - ago_s, step=10, total=20, metrics={}, rate=1.0)
    times = {"since": NOW - 60, "ends": step.estimated_end(NOW)}
    work = a_line(1, "command/1", State.RUNNING, str(step), step=step, **times)
    (_, drawn) = running_table(an_idle_screen()._replace(running=(work,))).to_lines(100)
    assert drawn.text.endswith(f"1 m  {left:>4}")


def test_failures_are_highlighted_with_the_next_command() -> None:
    failed = [one for one in snapshot_lines(a_busy_screen(), 140) if one.job == 39]
    assert "→ launcher logs 39" in " ".join(texts_of(failed))
    assert {span.style for span in failed[0].spans} >= {TextStyle.BAD}


def test_requeued_job_is_marked_if_its_reason_does_not_say_so() -> None:
    screen = a_busy_screen()
    again = screen.recent[1]._replace(reason="ended with exit code 1", requeued=False)
    drawn = snapshot_lines(screen._replace(recent=(again,)), 140)
    assert "ended with exit code 1 (queued again)" in drawn[-2].text


def test_time_left_is_shown_only_if_known() -> None:
    screen = a_busy_screen()
    assert "about 4 h 20 m left (18:52)" in head(screen, 100)[2].text
    assert "about" not in head(screen._replace(remaining_s=None), 100)[2].text


def test_time_left_is_shown_without_a_run_and_for_any_length() -> None:
    screen = an_idle_screen()._replace(remaining_s=15_600.0)
    assert head(screen, 100)[1].text == "about 4 h 20 m left (18:52)"
    assert head(screen._replace(remaining_s=1e13), 100)[1].text == "about 115740740 d 17 h left"


def test_table_of_jobs_shows_states_in_words() -> None:
    jobs = [a_line(number, "command/1", state) for number, state in enumerate(State, start=1)]
    drawn = job_table(jobs, NOW).to_lines(100)
    assert [one.job for one in drawn] == [*range(1, len(State) + 1)]
    assert all(str(job.state) in one.text for job, one in zip(jobs, drawn, strict=True))


def test_search_results_replace_the_sections() -> None:
    screen = a_busy_screen()
    nothing = snapshot_lines(screen._replace(found=(), search_text="vit"), 80)
    texts = texts_of(nothing)
    assert texts.count("no job matches 'vit'") == 1
    assert texts.index("no job matches 'vit'") < texts.index(LEGEND), "above what lies beside it"
    found = screen._replace(found=(a_line(7, "train/vit", State.DONE),), search_text="vit")
    drawn = "\n".join(texts_of(snapshot_lines(found, 80)))
    assert "FOUND vit" in drawn
    assert "RECENT" not in drawn.replace("RECENT LOAD", "")


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize(
    ("before", "exception", "kept"),
    [
        ("", "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"
         " a total capacity of 39.39 GiB of which 1.2 GiB is free", "OutOfMemoryError: CUDA out of"),
        ("ended with exit code 1: ", "FileNotFoundError: [Errno 2] No such file or directory: "
         + "'/data/" + "long/" * 40 + "list.csv'", "FileNotFoundError: [Errno 2] No such file"),
        ("", "KeyError", "KeyError"),
    ],
)  # fmt: skip
def test_exception_shows_its_class_and_the_start_of_its_message(
    width: int, before: str, exception: str, kept: str
) -> None:
    ended = a_busy_screen().recent[2]._replace(reason=f"{before}{exception}", short=exception)
    drawn = recent_table(an_idle_screen()._replace(recent=(ended,))).to_lines(width)[1:]
    begin = drawn[0].text.index(" 2 s  ") + len(" 2 s  ")
    told = " ".join(one.text[begin:] for one in drawn)
    assert kept in told
    assert told.endswith("→ launcher logs 39")
    assert len(drawn) <= 3


# --- Parameters of programs on screens: differences within a run, and latest reports of a program


def queued(store: Store, jobs: Mapping[str, str], *, run: str = "grid") -> list[int]:
    """Queue programs of a sweep by their names and the swept options of their command lines."""
    specs = [
        a_spec(*argv, name=name, run=run, settings={PARAMS: dict(parse_options(argv))})
        for name, words in jobs.items()
        for argv in [("train.py", *words.split())]
    ]
    return enqueue(store, *specs, run=run)


@pytest.mark.parametrize(
    ("jobs", "told"),
    [
        (("--lr 0.1 --seed 1 --epochs 3", "--lr 1e-5 --seed 1 --epochs 3"), ("lr=0.1", "lr=1e-05")),
        (("--seed 1 --amp", "--seed 1"), ("amp", "")),
        (("--seed 1", "--seed 1"), ("", "")),
        (("--lr 0.342391", "--lr 2 --out a/b"), ("lr=0.3424", "lr=2")),
        ((f"--tag {'x' * 30}", "--tag y\x1b"), (f"tag={'x' * 23}…", "tag=y\\x1b")),
        (("data", ""), ("", "")),
    ],
)
def test_job_shows_parameters_that_differ_within_its_run(
    home: Home, store: Store, jobs: Sequence[str], told: Sequence[str]
) -> None:
    queued(store, {f"command/grid-{at}": words for at, words in enumerate(jobs)})
    queued(store, {"command/alone": "--lr 7"}, run="other")
    assert [view.params_text for view in job_views(home, store, store.read.jobs())] == [*told, ""]


def test_differing_parameters_consider_all_jobs_of_the_run(home: Home, store: Store) -> None:
    queued(
        store,
        {f"command/{lr}-{seed}": f"--lr {lr} --seed {seed}" for lr in (1, 2, 3) for seed in (1, 2)},
    )
    second = store.read.jobs()[2:4]
    assert [view.params_text for view in job_views(home, store, second)] == [
        "lr=2 seed=1",
        "lr=2 seed=2",
    ]


def test_parameters_in_the_name_are_not_repeated(home: Home, store: Store) -> None:
    specs = [
        a_spec(
            "train.py",
            "--lr",
            str(lr),
            "--depth",
            str(at),
            name=f"command/train@lr={lr}",
            settings={PARAMS: {"lr": lr, "depth": at}},
        )
        for at, lr in enumerate((0.1, 1e-3))
    ]
    enqueue(store, *specs)
    (first, second) = job_views(home, store, store.read.jobs())
    assert (first.params_text, second.params_text) == ("depth=0", "depth=1")


def test_options_do_not_follow_a_name_that_a_user_gave(home: Home, store: Store) -> None:
    """Options of one program crowd out its name."""
    options = "--standalone --nproc-per-node=2 -n 60"
    names = {"command/ddp": options, "command/eval": "--lr 0.1"}
    specs = [a_spec("train.py", *words.split(), name=name) for name, words in names.items()]
    enqueue(store, *specs)
    views = job_views(home, store, store.read.jobs())
    assert [(view.params_text, view.program) for view in views] == [("", ""), ("", "")]


def test_parameters_in_a_short_command_line_are_not_repeated(home: Home, store: Store) -> None:
    words = {"command/1": "--seed 1", "command/2": f"--seed 2 {'x' * 40}"}
    enqueue(store, *(a_spec("train.py", *each.split(), name=name) for name, each in words.items()))
    short, long = job_views(home, store, store.read.jobs())
    assert (short.params_text, long.params_text) == ("", "seed=2")
    assert (short.program, long.program) == ("train.py --seed 1", "train.py")


@pytest.mark.parametrize("width", [60, 110])
def test_unnamed_job_of_a_sweep_shows_its_values_once(home: Home, store: Store, width: int) -> None:
    rows = [
        {"lr": lr, "seed": seed, "model": model, "epochs": 3}
        for lr in (0.1, 1)
        for seed in (1, 2)
        for model in ("lin", "vit")
    ]
    specs = [
        a_spec(
            "python",
            "/a/long/folder/of/a/project/fit.py",
            *(f"--{name}={value}" for name, value in row.items()),
            name=f"command/{at}",
            settings={PARAMS: row},
        )
        for at, row in enumerate(rows)  # as their numbers
    ]
    enqueue(store, *specs[1:])
    lines = texts_of(
        waiting_table(QueueSnapshotReader(home, store).read_snapshot()).to_lines(width)
    )
    for job, line in enumerate(lines[1:], 1):
        lr, seed, model, _ = rows[job].values()
        assert line.split()[1:5] == [f"lr={lr}", f"seed={seed}", f"model={model}", str(job)]
        assert "fit.py" not in line
    (alone,) = enqueue(store, specs[0]._replace(run="one"), run="one")
    (view,) = job_views(home, store, [job_row(store, alone)])
    assert (view.params_text, view.program) == ("lr=0.1 seed=1 model=lin epochs=3", "")


def test_parameters_follow_the_name_in_lists(home: Home, store: Store) -> None:
    queued(store, {f"command/grid-{seed}": f"--lr 0.342 --seed {seed}" for seed in (1, 2)})
    lines = texts_of(waiting_table(QueueSnapshotReader(home, store).read_snapshot()).to_lines(80))
    assert lines[1].startswith("○ grid-1 seed=1")
    drawn = in_a_terminal("status", "run:grid", columns=80)
    assert "grid-2 seed=2" in drawn


def test_differing_parameters_are_kept_at_80_columns(home: Home, store: Store) -> None:
    values = [(lr, momentum) for lr in (0.1, 0.01, 0.001) for momentum in (0.9, 0.99)]
    jobs = queued(
        store,
        {
            f"command/a-long-name-of-a-sweep-{at}": f"--learning-rate {lr} --momentum {momentum}"
            for at, (lr, momentum) in enumerate(values)
        },
    )
    lines = texts_of(waiting_table(QueueSnapshotReader(home, store).read_snapshot()).to_lines(80))[
        1:
    ]
    assert len(lines) == len(jobs)
    for at, (line, (lr, momentum)) in enumerate(zip(lines, values, strict=True)):
        assert len(line) <= 80
        assert f"{at} l" in line
        assert f"{lr} " in line
        assert f"{momentum} " in line


def test_program_result_is_its_last_output(home: Home, store: Store) -> None:
    (job,) = queued(store, {"command/grid": "--lr 0.1"})
    claim = claimed(store, job)
    attempt = home.attempt(job, 1)
    attempt.folder.mkdir(parents=True)
    attempt.log.write_text("launcher: step=3 loss=.25\nlauncher: acc=0.91\n")
    store.transitions.finish_attempt(claim, Done(at=2.0), outputs={}, now=2.0)
    (line,) = texts_of(
        recent_table(QueueSnapshotReader(home, store).read_snapshot()).to_lines(100)
    )[1:]
    assert line.endswith("loss=0.25 acc=0.91")


def test_pipe_and_json_contain_all_parameters(launcher: Launcher, store: Store) -> None:
    (job,) = enqueue(store, a_spec("true", name="command/plain"))
    plain = launcher("status", "--header").out.splitlines()
    assert plain[0].split("\t") == ["id", "run", "name", "state", "since", "why"]
    enqueue(
        store,
        a_spec(
            "train.py",
            "--lr=0.1",
            "--amp",
            name="command/swept",
            settings={PARAMS: {"lr": 0.1, "n": None}},
        ),
    )
    head, first, second = launcher("status", "--header").out.splitlines()
    assert head.split("\t")[-1] == "params"
    assert first.endswith("\t")
    assert second.endswith("\tlr=0.1 n=None amp")
    records = launcher.json("status")["jobs"]
    assert [record["params"] for record in records] == [{}, {"lr": 0.1, "n": None, "amp": True}]
    assert launcher.json("show", str(job))["params"] == {}


# --- What `launcher show` says a job is expected to take, and on what that rests


MIN = 60.0


RUNS = Usage(seconds=tuple(MIN * minutes for minutes in (90, 58, 72, 70, 95, 50, 58, 90)))


@pytest.mark.parametrize(
    ("usage", "limit", "said"),
    [
        (NO_USAGE, 7200.0, ""),
        (RUNS, None, "1 h 11 m (half of 8 runs took 58 m to 1 h 30 m)"),
        (
            RUNS,
            7200.0,
            "1 h 11 m (half of 8 runs took 58 m to 1 h 30 m; its time limit is 2 h)",
        ),
        (RUNS, MIN, "1 m (half of 8 runs took 58 m to 1 h 30 m; its time limit is 1 m)"),
        (Usage(seconds=(30.0,)), None, "30 s (1 run took 30 s)"),
        (Usage(seconds=(30.0, 50.0)), None, "40 s (2 runs took 30 s to 50 s)"),
        (
            Usage(seconds=(30.0,) * 5, is_own=False),
            None,
            "30 s (half of 5 runs of other jobs took 30 s; no similar job is done)",
        ),
    ],
)
def test_expected_duration_shows_the_number_of_runs(
    usage: Usage, limit: float | None, said: str
) -> None:
    assert expected_time(usage, Terms(time_limit_s=limit)) == said


@pytest.mark.parametrize("columns", [100, 150])
def test_reasons_keep_two_fifths_of_the_width(columns: int) -> None:
    screen = a_busy_screen()
    name = "train/a-detector-with-a-long-name" + "-and-more-words" * 8
    jobs = tuple(
        job._replace(name=f"{name}-seed{job.id}", params_text="", program="")
        for job in screen.waiting
    )
    failed = tuple(job._replace(name=f"{name}-seed{job.id}") for job in screen.recent)
    screen = screen._replace(waiting=jobs, recent=failed)
    for table, title in ((waiting_table, "WHY"), (recent_table, "RESULT")):
        titles, *lines = texts_of(table(screen).to_lines(columns))
        assert columns - titles.index(title) >= 0.4 * columns
        ends = {line.partition("…")[2].split()[0] for line in lines if "seed" in line}
        assert {end.rpartition("seed")[2] for end in ends} == {
            str(job.id) for job in table(screen).rows
        }
    whole = texts_of(waiting_table(screen).to_lines())  # as wide as it needs
    assert all(any(job.name in line for line in whole) for job in jobs)


def facts(home: Home, store: Store, job: int) -> dict[str, str]:
    row = job_row(store, job)
    return dict(facts_of(record_of(home, store, row, []), row))


def test_waiting_job_shows_its_future_reservation_and_the_reason(home: Home, store: Store) -> None:
    argv = ("train.py", "--gib=4")
    gpu, signature = Resources(device="cuda"), program_signature(argv)
    spec = a_spec(*argv, signature=signature, resources=gpu)
    other = a_spec("train.py", "--gib=7", name="command/2", signature=signature, resources=gpu)
    plain = a_spec(name="command/3")
    same_job, other_job, plain_job = enqueue(store, spec, other, plain)
    unknown = "a fixed part of a GPU at first (no similar job has been measured)"
    assert facts(home, store, same_job)["expected memory"] == unknown
    records = UsageRecords(store.database)
    similar = a_spec("train.py", "--small", signature=program_signature(("train.py", "--small")))
    claim = a_claim(similar, device="GPU-0", claimed=0.0)
    records.record(claim, Done(at=30.0), MeasuredUsage(peak=2 * GIB))
    assert facts(home, store, same_job)["expected memory"] == (
        "2.8 GiB on each GPU (estimated from 1 similar job)"
    )
    claim = a_claim(spec, device="GPU-0", claimed=0.0)
    records.record(claim, Done(at=60.0), MeasuredUsage(peak=4 * GIB))
    same = facts(home, store, same_job)
    assert same["expected memory"] == "4.2 GiB on each GPU (learned from 1 run)"
    assert same["expected time"] == "1 m (1 run took 1 m)"
    untried = "5.5 GiB on each GPU (estimated from 2 similar jobs)"
    assert facts(home, store, other_job)["expected memory"] == untried
    assert "expected memory" not in facts(home, store, plain_job)


def test_expected_memory_includes_similar_running_jobs(
    home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Resources(device="cuda")
    specs = [
        a_spec(*argv, name=f"job/{at}", signature=program_signature(argv), resources=gpu)
        for at, argv in enumerate([("train.py", f"--lr={at}") for at in range(3)])
    ]
    other = a_spec("score.py", signature=program_signature(("score.py",)), resources=gpu)
    waits, *running_jobs, unlike = enqueue(store, *specs, other)
    for job in (*running_jobs, unlike):
        claimed(store, job, NOW, device="GPU-0")
    monkeypatch.setattr(job_records, "scheduler_pid", lambda _: 1)
    unknown = "a fixed part of a GPU at first (no similar job has been measured)"
    seen = GpuStatus(at=NOW, gpus=())

    def expected(job: int, *settled: int | None) -> str:
        used = zip((*running_jobs, unlike), (*settled, None, 9 * GIB), strict=False)
        records: list[Json] = [{"job": job, "number": 1, "settled": size} for job, size in used]
        write_gpu_status(home, seen, records)
        return facts(home, store, job)["expected memory"]

    assert expected(waits, None, None) == unknown
    assert expected(waits, 2 * GIB, None) == "2.8 GiB on each GPU (estimated from 1 similar job)"
    both = "2.8 GiB on each GPU (estimated from 2 similar jobs)"
    assert expected(waits, 2 * GIB, 2 * GIB) == both
    assert expected(running_jobs[0], 2 * GIB, None) == unknown, "a job is not similar to itself"
    monkeypatch.setattr(job_records, "scheduler_pid", lambda _: None)
    assert expected(waits, 2 * GIB, None) == unknown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1234567891, "0.123457"),
        (12, "12"),
        ([0.5, 1], "0.5 1"),
        ({"auc": 0.9}, '{"auc": 0.9}'),
        ("a\x1bb", "a\\x1bb"),
        (None, "None"),
    ],
)
def test_job_result_has_the_same_text_on_all_screens(value: object, text: str) -> None:
    assert result_cells({"result": {"name\t": value}}) == [("  name\\t", text)]
    assert result_cells({"result": None}) == []


# --- job_actions


def proposed(store: Store, key: str, job: int) -> ProposedChange:
    action = propose(key, [job_row(store, job)], store)
    assert isinstance(action, ProposedChange), action
    return action


def refused(store: Store, key: str, job: int) -> str:
    why = propose(key, [job_row(store, job)], store)
    assert isinstance(why, str)
    return why


def a_running_job(store: Store, **seat: object) -> int:
    (job,) = enqueue(store, "train/a")
    claimed(store, job, 1.0, **seat)
    return job


@pytest.mark.parametrize(
    ("device", "reservation", "tail"),
    [
        ("cpu", None, ""),
        ("GPU-1", 2 << 30, " 2 GiB on its GPU stays reserved"),
        ("GPU-1", None, " its memory on its GPU stays reserved"),
        ("GPU-1,GPU-2", 2 << 30, " 2 GiB on each of its 2 GPUs stays reserved"),
    ],
)
def test_pause_shows_the_kept_reservation_until_resume(
    store: Store, device: str, reservation: int | None, tail: str
) -> None:
    job = a_running_job(store, device=device, vram=reservation)
    pause = proposed(store, "p", job)
    assert pause.text == f"pause job {job} train/a?{tail}"
    assert pause.act(store) == [job]
    row = job_row(store, job)
    assert row.paused is not None
    assert row.state_reason.code is ReasonCode.PAUSED
    assert row.state_reason.text.endswith(tail or row.state_reason.text)
    assert "is already paused" in refused(store, "p", job)
    assert pause.act(store) == []
    resume = proposed(store, "u", job)
    assert resume.text == f"resume job {job} train/a?"
    assert resume.act(store) == [job]
    assert job_row(store, job).paused is None
    assert refused(store, "u", job) == f"job {job} is not paused"


def test_ending_job_cannot_be_paused(store: Store) -> None:
    job = a_running_job(store)
    store.job_control.cancel([job], 2.0)
    assert refused(store, "p", job) == f"job {job} is about to end"


def test_job_on_a_cluster_node_cannot_be_paused(store: Store) -> None:
    job = a_running_job(store, boot="pilot:abc")
    assert "on a cluster node cannot be paused" in refused(store, "p", job)


def test_restarted_cluster_job_is_not_changed(store: Store) -> None:
    (job,) = enqueue(store, "train/a")
    first = claimed(store, job)
    pause = proposed(store, "p", job)
    store.transitions.finish_attempt(
        first, Failed(at=2.0, error="", exit_code=1), outputs={}, now=2.0
    )
    store.job_control.retry([job], 3.0)
    claimed(store, job, 4.0, boot="pilot:abc")
    assert pause.act(store) == []
    assert job_row(store, job).paused is None


def test_list_of_jobs_has_the_numbers_of_those_that_are_done(home: Home, store: Store) -> None:
    (job,) = queued(store, {"command/fit": "--lr 0.1"})
    claim = claimed(store, job)
    attempt = home.attempt(job, 1)
    attempt.folder.mkdir(parents=True)
    attempt.log.write_text("launcher: acc=0.91\n")
    store.transitions.finish_attempt(claim, Done(at=2.0), outputs={}, now=2.0)
    assert "acc=0.91" in in_a_terminal("status", "run:grid", columns=80)
