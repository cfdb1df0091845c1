from dataclasses import replace
from typing import Any, ClassVar

import pytest

from launcher.job import Resources
from launcher.kind_interface import Kind
from launcher.planning.estimates import Basis, History, JobEstimate, forecast, past_job
from launcher.planning.plan import PlannedJob
from launcher.scheduler.policy.inventory import wants_gpu as on_gpu
from launcher.scheduler.policy.model import Machine
from launcher.states import Done, Failed
from launcher.store.queue import Store
from launcher.store.usage import Run, Usage
from launcher.units import Bytes
from tests.build import a_gpu, a_seat, a_spec, enqueue, job_row
from tests.launcher.plans import GIB, KINDS, a_history, a_plan, done_before, named
from tests.launcher.toylab import Toy, TrainSettings


def a_job(**changes: Any) -> PlannedJob:
    job = named(a_plan(), "train/dot:pre")
    return job._replace(**changes)


def test_nothing_is_foretold_without_history() -> None:
    assert forecast(a_job(), a_history()) == JobEstimate()
    assert JobEstimate().source is Basis.NONE


def test_the_middle_of_the_jobs_that_are_alike_is_expected() -> None:
    job = a_job()
    past = [done_before(job, seconds, disk=size) for seconds, size in ((90, 5), (100, 7), (500, 6))]
    estimate = forecast(job, a_history(*past))
    assert (estimate.seconds, estimate.disk, estimate.runs) == (100, 6, 3)
    assert estimate.spread == pytest.approx(0.1)
    assert estimate.source is Basis.MEASURED


def test_one_run_tells_a_time_but_no_spread() -> None:
    estimate = forecast(a_job(), a_history(done_before(a_job(), 60.0)))
    assert (estimate.seconds, estimate.spread, estimate.disk) == (60.0, None, None)


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "test"},
        {"images": "line:pre&real:pre"},
        {"fresh": False},
        {"on_gpu": True},
        {"settings": {**a_job().settings, "epochs": 7}},
    ],
)
def test_what_decides_the_time_must_agree(other: dict[str, Any]) -> None:
    past = done_before(a_job(), 60.0, **other)
    assert forecast(a_job(), a_history(past)).runs == 0


def test_settings_that_cannot_change_a_result_do_not_matter() -> None:
    past = done_before(a_job(), 60.0, settings={**a_job().settings, "threads": 9})
    assert forecast(a_job(), a_history(past)).runs == 1


def test_only_the_settings_that_a_kind_names_as_costly_matter() -> None:
    class Costly(TrainSettings):
        costs: ClassVar[frozenset[str]] = frozenset({"epochs"})

    train = KINDS["train"]
    assert isinstance(train, Toy)
    kinds: dict[str, Kind] = {"train": replace(train, settings=Costly)}
    dear = done_before(a_job(), 60.0, settings={**a_job().settings, "epochs": 7})
    alike = done_before(a_job(), 50.0, settings={**a_job().settings, "lr": 7.0})
    estimate = forecast(a_job(), a_history(dear, alike, kinds=kinds))
    assert (estimate.seconds, estimate.runs) == (50.0, 1)


@pytest.mark.parametrize(
    ("asked", "accelerated", "wants"),
    [
        (Resources(), True, True),
        (Resources(), False, False),
        (Resources(device="cpu"), True, False),
        (Resources(device="cuda:1"), False, True),
        (Resources(min_vram=Bytes(GIB)), False, True),
    ],
)
def test_a_job_is_expected_on_a_gpu_as_the_scheduler_places_it(
    asked: Resources, accelerated: bool, wants: bool
) -> None:
    job = a_job(resources=asked._replace(accelerated=accelerated))
    assert job.resources.works_on_gpu(there=True) is wants
    # one that names a GPU waits for it
    assert job.resources.works_on_gpu(there=False) is (asked.device == "cuda:1")
    for gpus in ((), (a_gpu(),)):
        asks, machine = job.resources, Machine(cpus=2, gpus=gpus)
        assert asks.works_on_gpu(there=bool(gpus)) is on_gpu(asks, machine)


def test_memory_is_what_the_file_declares_where_there_is_a_gpu() -> None:
    job = a_job(resources=Resources(min_vram=Bytes(2 * GIB)))
    estimate = forecast(job, a_history(gpus=True))
    assert (estimate.vram, estimate.vram_source) == (2 * GIB, Basis.DECLARED)
    assert forecast(job, a_history()).vram is None


def test_the_queue_tells_what_was_done_how_long_where_and_how_much_it_wrote(store: Store) -> None:
    a, b, c, d = enqueue(
        store,
        *(a_spec(name=f"train/{one}", kind="train", images="x", base="y") for one in "abcd"),
    )
    for job, outputs in ((a, {"/m": (7, 1), "/n": (5, 1)}), (b, {"/f": (0, 0)}), (c, {})):
        claim = store.scheduling.claim(job, a_seat(device="GPU-0"), reason="fits", now=10.0)
        assert claim is not None
        ending = Failed(at=52.0, error="no") if job == c else Done(at=52.0)
        store.scheduling.finish(claim, ending, outputs=outputs, now=52.0)
    estimate = {one[0].id: past_job(*one) for one in store.read.done_lately(10)}
    assert set(estimate) == {a, b}
    assert (estimate[a].seconds, estimate[a].disk, estimate[a].on_gpu) == (42.0, 12, True)
    assert (estimate[a].images, estimate[a].fresh) == ("x", False)
    assert estimate[b].disk is None  # a folder's size is not known
    assert job_row(store, d).ended is None


def test_of_what_ended_before_it_began_or_years_later_no_duration_is_learned(store: Store) -> None:
    jobs = enqueue(store, *(a_spec(name=f"command/{number}") for number in range(3)))
    for job, end in zip(jobs, (10.0, 160.0, 1e9), strict=True):
        claim = store.scheduling.claim(job, a_seat(), reason="fits", now=100.0)
        assert claim is not None
        store.scheduling.finish(claim, Done(at=end), outputs={}, now=end)
    assert [seconds for _, seconds, _ in store.read.done_lately(10)] == [60.0]


def test_a_program_that_ran_with_other_numbers_tells_how_long_it_takes() -> None:
    job = a_job()._replace(signature="command 1", argv=("train.py", "--seed", "3"))
    runs = (Run(4 * GIB, ("1",)), Run(4 * GIB, ("2",)))
    learned = Usage(seconds=(50.0, 70.0), peaks=(4 * GIB, 4 * GIB), runs=runs)
    on_gpu = job._replace(resources=Resources(device="cuda"))
    history = History((), KINDS, gpus=True, usage=lambda _: learned)
    estimate = forecast(on_gpu, history)
    assert (estimate.seconds, estimate.runs, estimate.vram, estimate.peaks) == (60.0, 2, 4 * GIB, 2)
    others = History((), KINDS, gpus=True, usage=lambda _: learned._replace(own=False))
    assert forecast(on_gpu, others).seconds is None  # its kind's are no estimate
    untried = forecast(on_gpu._replace(argv=("train.py", "--seed", "3", "4")), history)
    assert untried.vram is None


def test_of_an_attempt_that_failed_before_nothing_is_learned(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    for claimed_at, ending in ((10.0, Failed(at=99.0, error="no")), (200.0, Done(at=203.0))):
        claim = store.scheduling.claim(job, a_seat(), reason="fits", now=claimed_at)
        assert claim is not None
        store.scheduling.finish(claim, ending, outputs={}, now=ending.at)
        if isinstance(ending, Failed):
            store.steering.retry([job], 100.0)
    ((_, seconds, device),) = store.read.done_lately(10)
    assert (seconds, device) == (3.0, "cpu")
