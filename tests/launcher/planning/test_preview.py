"""What a dry run says of backends: which jobs go where, how many pilots, when the engine would start one."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from launcher.experiments.functions.plan_checks import query_engines
from launcher.experiments.planning.backend_preview import (
    BackendPreview,
    EstimateResult,
    preview_backends,
)
from launcher.experiments.planning.comparison import Action, ComparedJob
from launcher.experiments.planning.estimates import (
    Basis,
    JobEstimate,
    PastJob,
    RuntimeHistory,
    build_past_job,
    estimate_job,
)
from launcher.experiments.planning.first_wave import FirstWave, MachineState
from launcher.experiments.planning.plan import Plan, PlannedJob
from launcher.experiments.planning.preview import Preview, preview_plan
from launcher.frontends.screens.plan_backends import backend_lines
from launcher.queue.backends.protocol import Estimate
from launcher.queue.backends.settings import Backends, BackendSettings
from launcher.queue.home.paths import Home
from launcher.queue.jobs.accounts import FairShareAccount
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.job import CPU, Resources
from launcher.queue.jobs.states import Done, Failed
from launcher.queue.scheduler.policy.disciplines import DEFAULT_POLICY, FIFO
from launcher.queue.scheduler.policy.model import Machine, Running
from launcher.queue.store.lanes import Lane
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import ReadyJob
from launcher.queue.store.usage import AttemptPeak, SimilarUsage, Usage
from launcher.system.units import Bytes
from tests.build import a_spec, claimed, enqueue, job_row
from tests.launcher.plans import (
    GIB,
    KINDS,
    NOON,
    a_gpu,
    a_history,
    a_plan,
    compared_jobs,
    done_before,
    here,
    named,
    some_commands,
)


def make_preview(made: Plan, around: MachineState, *past: PastJob, done: int = 0) -> Preview:
    history = a_history(*past, gpus=bool(around.machine.gpus))
    return preview_plan(compared_jobs(made, done), history, around)


def waves(judged: Sequence[ComparedJob], around: MachineState) -> FirstWave:
    return preview_plan(judged, a_history(), around).wave


def in_the_queue(job: int, rank: float = 0.0, cpus: int = 1) -> ReadyJob:
    lane = Lane(group="", resources=Resources(cpus=cpus), environment=WorkerEnvironment())
    return ReadyJob(id=job, rank=rank, lane_id=1, lane=lane)


def test_job_that_does_not_fit_names_the_missing_resource() -> None:
    made = some_commands("", ", resources: {cpus: 4}", "")
    wave = make_preview(made, here(cpus=4)).wave
    assert wave.starts == {("command", CPU): 1}
    assert wave.wait_reason == "command/c1 is waiting for 4 CPU cores: 3 of 4 free"


SWEEP = FairShareAccount(run=7, name="sweep", vtime=1e6)
BEFORE = here(cpus=2)._replace(
    ready=tuple(in_the_queue(n, rank=NOON)._replace(account=SWEEP) for n in range(1, 9))
)
TRAININGS = a_plan(
    "name: x\ntrain: [{model: null, data: dot:pre}, {model: null, data: ring:pre}]\n"
)
LEARNED = here(a_gpu(), usage=lambda *_: Usage(peaks=(10 * GIB,)))
SIMILAR = here(a_gpu(), usage=lambda *_: Usage(similar=SimilarUsage(peaks=(4 * GIB,))))
TAKEN = here(cpus=1, ready=(in_the_queue(7, rank=NOON - 1),))
COMMAND, URGENT = some_commands(""), some_commands(", resources: {priority: 1}")
STARTS: Mapping[str, tuple[Plan, MachineState, Mapping[tuple[str, str], int]]] = {
    "a new run comes before one that had much": (
        some_commands("", ""),
        *(BEFORE, {("command", CPU): 2}),
    ),
    "that run itself does not": (some_commands("", ""), BEFORE._replace(account=SWEEP), {}),
    "nothing is known of its memory": (TRAININGS, here(a_gpu()), {("train", "cuda:0"): 1}),
    "similar jobs were measured": (TRAININGS, SIMILAR, {("train", "cuda:0"): 2}),
    "it is promised what jobs like it took": (TRAININGS, LEARNED, {("train", "cuda:0"): 2}),
    "the cards are hidden": (TRAININGS, LEARNED._replace(visible=()), {("train", CPU): 2}),
    "what waits in the queue already goes first": (COMMAND, TAKEN, {}),
    "it is more urgent": (URGENT, TAKEN, {("command", CPU): 1}),
    **{
        f"a wide job has waited {waited_s} s in a queue of {queue_s} s under {discipline.name}": (
            COMMAND,
            here(
                cpus=2,
                ready=(in_the_queue(7, rank=NOON - waited_s, cpus=2),),
                running=(Running(cpus=1),),
            )._replace(queue_s=queue_s, discipline=discipline),
            {("command", CPU): 1} if starts else {},
        )
        for waited_s, queue_s, discipline, starts in (
            (1, 3600.0, DEFAULT_POLICY, True),
            (1, 3600.0, FIFO, False),
            (7200, 3600.0, DEFAULT_POLICY, False),  # half as long again: it is passed no more
            (7200, 7200.0, DEFAULT_POLICY, True),
        )
    },
}


@pytest.mark.parametrize(("made", "around", "starts"), STARTS.values(), ids=STARTS)
def test_first_wave_follows_the_scheduling_policy(
    made: Plan, around: MachineState, starts: Mapping[tuple[str, str], int]
) -> None:
    assert make_preview(made, around).wave.starts == starts


def test_first_wave_fills_each_gpu_with_trainings() -> None:
    entry = "{model: null, data: %s, resources: {vram: 16GiB}}"
    words = ("dot:pre", "line:pre", "ring:pre", "real:pre", "any:pre")
    made = a_plan("name: x\ntrain:\n" + "".join(f"  - {entry % word}\n" for word in words))
    wave = make_preview(made, here(a_gpu(0), a_gpu(1, free=6.3), a_gpu(2), cpus=8)).wave
    assert wave.starts == {("train", "cuda:0"): 2, ("train", "cuda:2"): 2}
    assert wave.wait_reason.startswith(
        "train/any:pre is waiting for 16 GiB of GPU memory: cuda:0 has 39 GiB free, of which 32 GiB is reserved for "
    )
    assert "; cuda:1 has 6.3 GiB free; cuda:2 has 39 GiB free" in wave.wait_reason


def test_plan_reports_jobs_that_can_never_start() -> None:
    made = a_plan("name: x\nresources: {train: {gpus: 3}}\ntrain: [{model: null, data: dot:pre}]\n")
    wave = make_preview(made, here(a_gpu(0), a_gpu(1))).wave
    assert wave.unsatisfiable == {"needs 3 GPUs, but this machine has 2": 1}
    assert make_preview(made, here(a_gpu(0), a_gpu(1), a_gpu(2))).wave.unsatisfiable == {}


def test_reserved_resources_are_not_given_again() -> None:
    busy = here(cpus=2, running=(Running(cpus=2),))
    wave = make_preview(some_commands(""), busy).wave
    assert wave == FirstWave(wait_reason="command/c0 is waiting for 1 CPU core: 0 of 2 free")


def test_jobs_already_queued_count_once() -> None:
    (one,) = compared_jobs(some_commands(""))
    around = here(ready=(in_the_queue(7),))
    joined = one._replace(action=Action.JOIN, state="queued", number=7)
    again = one._replace(state="changed", number=7)
    assert waves([joined], around).starts == {("command", CPU): 1}
    assert waves([again], around).starts == {("command", CPU): 1}


def test_identical_jobs_are_tried_at_most_once_per_core() -> None:
    wave = make_preview(some_commands(*[""] * 50), here(cpus=3)).wave
    assert wave == FirstWave(starts={("command", CPU): 3})


def test_plan_takes_at_least_as_long_as_its_longest_chain() -> None:
    made = a_plan()
    times = {"shapes": 1.0, "poison": 2.0, "train": 10.0, "unlearn": 5.0, "test": 3.0}
    past = [done_before(job, times[job.kind]) for job in made.jobs]
    assert make_preview(made, here(), *past).longest_chain_s == 1 + 2 + 10 + 5 + 3
    assert make_preview(made, here(), *past[:2]).longest_chain_s is None


def test_record_has_null_for_unknown_values() -> None:
    machine = Machine(cpus=2, ram=4 * GIB, ram_free=GIB, gpus=(a_gpu(),))
    around = here(machine=machine, running=(Running(devices=("GPU-0",), cpus=1),))
    record = json.loads(json.dumps(make_preview(some_commands(""), around).to_json()))
    assert record["machine"]["cpus_free"] == 1
    assert record["machine"]["gpus"][0]["total_bytes"] == 40 * GIB
    assert record["first_wave"]["starts"] == [{"kind": "command", "device": "cpu", "jobs": 1}]
    assert record["time"]["kinds"]["command"]["seconds"] is None
    assert record["disk"] == {"bytes": None, "unknown_jobs": 1, "free_bytes": 412 * GIB}


SLURM = BackendSettings(name="slurm", kind="slurm", cpus=4, gpus=2, gpu_type="a100", pilots=3)


SMALL = BackendSettings(name="small", kind="local", cpus=1)


BACKENDS = Backends(by_name={"slurm": SLURM, "small": SMALL})


def on(names: str, more: str = "") -> str:
    return f', resources: {{on: "{names}"{more}}}'


def previewed(
    *commands: str, answer: EstimateResult | None = None, done: int = 0
) -> tuple[BackendPreview, ...]:
    def ask(asked: Sequence[BackendSettings]) -> Mapping[str, EstimateResult]:
        return {each.name: answer or EstimateResult() for each in asked}

    judged = compared_jobs(some_commands(*commands), done)
    return preview_backends(judged, BACKENDS, ask)


def print_preview(*commands: str, answer: EstimateResult | None = None) -> str:
    return "\n".join(backend_lines(previewed(*commands, answer=answer), NOON))


def test_plan_for_this_machine_queries_no_engine() -> None:
    def ask(_: Sequence[BackendSettings]) -> Mapping[str, EstimateResult]:
        raise AssertionError("nobody is asked")

    judged = compared_jobs(some_commands("", on("local")), 0)
    assert preview_backends(judged, BACKENDS, ask) == ()


def test_jobs_use_the_first_backend_that_fits() -> None:
    jobs = [on("small,slurm"), on("small,slurm", ", cpus: 4"), on("small,slurm,local", ", cpus: 9")]
    previews = {each.name: each for each in previewed(*jobs)}
    assert {name: each.jobs for name, each in previews.items()} == {
        "small": 1,
        "slurm": 1,
        "local": 1,
    }
    assert previews["slurm"].other_backends == ("small",)


def test_pilots_are_counted_by_capacity_up_to_the_limit() -> None:
    (five,) = previewed(*[on("slurm")] * 5)
    assert (five.first_pilots, five.max_pilots) == (2, 2), "four cores each"
    (many,) = previewed(*[on("slurm", ", cpus: 3")] * 9)
    assert (many.first_pilots, many.max_pilots) == (3, 3), (
        "nine would be needed, three may be there"
    )
    (cards,) = previewed(*[on("slurm", ", vram: 4GiB, gpus: 2")] * 2)
    assert cards.max_pilots == 2, "each takes both GPUs"


def test_engine_estimate_is_shown_in_words() -> None:
    two = [on("slurm", ", cpus: 4")] * 2
    assert print_preview(
        *two, answer=EstimateResult(estimate=Estimate(possible=True, starts_at=NOON))
    ) == ("On slurm: 2 command; 2 pilots with 4 cores, 2 a100 each; one would start now")
    later = EstimateResult(estimate=Estimate(possible=True, starts_at=NOON + 600))
    assert "one is expected to start at " in print_preview(*two, answer=later)
    never = EstimateResult(
        estimate=Estimate(possible=False, why="invalid partition specified: gpu")
    )
    assert print_preview(*two, answer=never).endswith(
        "; none can start: invalid partition specified: gpu"
    )
    mute = EstimateResult(error="no answer in 10 s")
    assert print_preview(*two, answer=mute).endswith(
        "; the start time is unknown (no answer in 10 s)"
    )
    for at in (1e300, NOON + 365 * 86_400):  # a year is what Slurm says where it knows no limits
        odd = EstimateResult(estimate=Estimate(possible=True, starts_at=at))
        assert print_preview(*two, answer=odd).endswith("; none is expected to start within 60 d")


def test_second_choice_backends_are_named() -> None:
    assert print_preview(on("slurm,local")).startswith(
        "On slurm, otherwise on this machine: 1 command; "
    )
    some = print_preview(on("slurm,local"), on("slurm"), on("slurm"))
    assert some.startswith("On slurm, otherwise on this machine (except 2 jobs): 3 command; ")


def test_first_wave_contains_only_jobs_allowed_on_this_machine() -> None:
    judged = compared_jobs(some_commands("", on("slurm"), on("slurm,local")), 0)
    preview = preview_plan(judged, a_history(), here(cpus=8), BACKENDS)
    assert sum(preview.wave.starts.values()) == 2


def test_job_that_fits_no_pilot_is_reported_before_queueing() -> None:
    judged = compared_jobs(some_commands(on("small,slurm", ", cpus: 9")), 0)
    preview = preview_plan(judged, a_history(), here(cpus=16), BACKENDS)
    (why,) = preview.wave.unsatisfiable
    assert "a pilot of small has 1" in why
    assert "a pilot of slurm has 4" in why


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_hanging_engine_does_not_block_a_dry_run(
    home: Home, stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging:
        def estimate(self, _: object) -> Estimate:
            stuck.wait()
            return Estimate(possible=True)

    monkeypatch.setattr(
        "launcher.experiments.functions.plan_checks.load_backend", lambda *_: Hanging()
    )
    answers = query_engines([SLURM], home, patience_s=0.05)
    assert answers["slurm"].error == "no answer in 0.05 s"


def test_shapes_name_all_requested_resources() -> None:
    assert "64 GiB, 12 h" in "\n".join(
        backend_lines(
            [
                BackendPreview(
                    name="a",
                    settings=BackendSettings(
                        name="a", kind="slurm", memory=64 * GIB, time_s=43_200.0
                    ),
                    kinds={"train": 1},
                    other_backends=(),
                    jobs_only_here=0,
                    first_pilots=1,
                    max_pilots=1,
                    estimate_result=EstimateResult(),
                )
            ],
            NOON,
        )
    )


# --- estimates


def a_job(**changes: Any) -> PlannedJob:
    job = named(a_plan(), "train/dot:pre")
    return job._replace(**changes)


def test_no_estimate_without_history() -> None:
    assert estimate_job(a_job(), a_history()) == JobEstimate()
    assert JobEstimate().source is Basis.NONE


def test_median_of_similar_jobs_is_expected() -> None:
    job = a_job()
    past = [done_before(job, seconds, disk=size) for seconds, size in ((90, 5), (100, 7), (500, 6))]
    estimate = estimate_job(job, a_history(*past))
    assert (estimate.seconds, estimate.disk, estimate.runs) == (100, 6, 3)
    assert estimate.spread == pytest.approx(0.1)
    assert estimate.source is Basis.MEASURED


@pytest.mark.parametrize(
    ("other", "runs"),
    [
        ({}, 1),
        ({"kind": "test"}, 0),
        ({"images": "line:pre&real:pre"}, 0),
        ({"from_scratch": False}, 0),
        ({"on_gpu": True}, 0),
        ({"settings": {**a_job().settings, "epochs": 7}}, 0),
        ({"settings": {**a_job().settings, "threads": 9}}, 1),  # threads change no result
    ],
)
def test_similar_jobs_must_agree_in_what_determines_the_duration(
    other: dict[str, Any], runs: int
) -> None:
    past = done_before(a_job(), 60.0, **other)
    estimate = estimate_job(a_job(), a_history(past))
    # one run gives a time but no spread
    expected = (60.0, None, None, 1) if runs else (None, None, None, 0)
    assert (estimate.seconds, estimate.spread, estimate.disk, estimate.runs) == expected


def test_memory_is_the_declared_amount_for_gpu_jobs() -> None:
    job = a_job(resources=Resources(vram=Bytes(2 * GIB)))
    estimate = estimate_job(job, a_history(gpus=True))
    assert (estimate.vram, estimate.vram_source) == (2 * GIB, Basis.DECLARED)
    assert estimate_job(job, a_history()).vram is None


def test_history_contains_duration_device_and_disk_usage(store: Store) -> None:
    a, b, c, d = enqueue(
        store,
        *(
            a_spec(
                name=f"train/{one}", kind="train", images="x", base="y", signature=f"train {one}"
            )
            for one in "abcd"
        ),
    )
    for job, outputs in ((a, {"/m": (7, 1), "/n": (5, 1)}), (b, {"/f": (0, 0)}), (c, {})):
        claim = claimed(store, job, 10.0, device="GPU-0")
        ending = Failed(at=52.0, error="no") if job == c else Done(at=52.0)
        store.transitions.finish_attempt(claim, ending, outputs=outputs, now=52.0)
    estimate = {one[0].id: build_past_job(*one) for one in store.read.recently_done(10)}
    assert set(estimate) == {a, b}
    assert (estimate[a].seconds, estimate[a].disk, estimate[a].on_gpu) == (42.0, 12, True)
    assert (estimate[a].images, estimate[a].from_scratch) == ("x", False)
    assert estimate[a].signature == "train a"
    assert estimate[b].disk is None  # a folder's size is not known
    assert job_row(store, d).ended is None


def test_invalid_durations_are_ignored(store: Store) -> None:
    jobs = enqueue(store, *(f"command/{number}" for number in range(3)))
    for job, end in zip(jobs, (10.0, 160.0, 1e9), strict=True):
        claim = claimed(store, job, 100.0)
        store.transitions.finish_attempt(claim, Done(at=end), outputs={}, now=end)
    assert [seconds for _, seconds, _ in store.read.recently_done(10)] == [60.0]


def test_program_history_with_other_numbers_gives_an_estimate() -> None:
    job = a_job()._replace(signature="command 1", argv=("train.py", "--seed", "3"))
    runs = (AttemptPeak(4 * GIB, ("1",)), AttemptPeak(4 * GIB, ("2",)))
    learned = Usage(seconds=(50.0, 70.0), peaks=(4 * GIB, 4 * GIB), attempt_peaks=runs)
    on_gpu = job._replace(resources=Resources(device="cuda"))
    history = RuntimeHistory((), KINDS, gpus=True, usage=lambda *_: learned)
    estimate = estimate_job(on_gpu, history)
    assert (estimate.seconds, estimate.runs, estimate.vram, estimate.peaks) == (60.0, 2, 4 * GIB, 2)
    others = RuntimeHistory((), KINDS, gpus=True, usage=lambda *_: learned._replace(is_own=False))
    assert estimate_job(on_gpu, others).seconds is None  # runs of its kind are not an estimate
    untried = estimate_job(on_gpu._replace(argv=("train.py", "--seed", "3", "4")), history)
    assert untried.vram is None


def test_cpu_program_has_the_estimate_of_other_numbers() -> None:
    job = a_job()._replace(signature="command 1")
    past = [
        done_before(job, seconds, settings={**job.settings, "epochs": 7}, signature="command 1")
        for seconds in (50.0, 70.0)
    ]
    estimate = estimate_job(job, a_history(*past))
    assert (estimate.seconds, estimate.runs) == (60.0, 2)
    other = job._replace(signature="command 2")
    assert estimate_job(other, a_history(*past)).seconds is None
