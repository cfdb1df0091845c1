"""What becomes of a job whose attempt ended: results, memory that ran out, and attempts that were lost."""

import errno
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.queue.gpu.reservations import ReservationBoard
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.home_checks import home_id
from launcher.queue.home.paths import Attempt, Home, make_home
from launcher.queue.jobs.context import WorkerEnvironment, attempt_job_folder, job_folder
from launcher.queue.jobs.job import FUNCTION, Resources, Spec, Terms
from launcher.queue.jobs.job_folders import OWNER
from launcher.queue.jobs.signatures import program_signature
from launcher.queue.jobs.states import (
    Done,
    EndCause,
    Failed,
    Lost,
    MemoryKind,
    OomReport,
    Outcome,
    OutOfMemory,
    Reason,
    ReasonCode,
    State,
    Stopped,
)
from launcher.queue.scheduler import endings
from launcher.queue.scheduler.endings import MOVE_RETRY_S, FinishedAttempts
from launcher.queue.scheduler.gpus.eviction import Eviction
from launcher.queue.scheduler.gpus.gpu_state import SchedulerGpus
from launcher.queue.scheduler.pilot_node import GonePilot
from launcher.queue.scheduler.policy.model import Machine, gpu_request_of, make_waiting
from launcher.queue.scheduler.policy.oom_policy import STEP, OomContext, OomVerdict, diagnose_oom
from launcher.queue.scheduler.requeue import (
    CROWDED_PAUSE_S,
    MOST_SHORTAGES,
    SHORTAGES_BESIDE_OTHERS,
    decide_requeue,
)
from launcher.queue.staging.acceptance import accept, hand_over
from launcher.queue.staging.earlier_stages import take_earlier_stage
from launcher.queue.staging.stages import STAGES_FOLDER
from launcher.queue.staging.view import DeclaredOutputs, make_stage
from launcher.queue.store.lanes import Lane
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import PILOT_PREFIX, Claim
from launcher.queue.store.transitions import REQUEUE_LIMIT, RequeueDecision
from launcher.queue.store.usage import MeasuredUsage
from launcher.system import answering
from tests.build import (
    GIB,
    a_claim,
    a_gpu,
    a_reason,
    a_spec,
    claimed,
    enqueue,
    job_row,
    until,
)

# --- what an attempt on a node has made is moved into its run, or its job is not done


MODEL = "a:pre"
Take = Callable[[Outcome], Outcome | None]


# a worker says itself that it has made something; a program that names its folder has always made that
of_both = pytest.mark.parametrize("spec", ["job", "program"], indirect=True)


@pytest.fixture
def spec(tmp_path: Path, request: pytest.FixtureRequest) -> Spec:
    (tmp_path / "project").mkdir()
    root = str(tmp_path / "project")
    if getattr(request, "param", "job") == "program":
        return a_spec("train", "{job_folder}", root=root)
    return a_spec(argv=(), entry="m:f", root=root, model=MODEL)


@pytest.fixture
def done_outcome(spec: Spec) -> Done:
    return Done(at=1.0, has_results=True if spec.entry else None)


def unknown_outcome(_: Claim) -> Outcome:
    return Lost(at=1.0, why="nothing is known of it")


@pytest.fixture
def ends(home: Home, store: Store, tmp_path: Path) -> FinishedAttempts:
    gpus = SchedulerGpus(
        home,
        tuple[GpuSnapshot, ...],
        lambda: None,
        board=ReservationBoard(tmp_path / "board", home.folder),
    )
    return FinishedAttempts(home, store, gpus, lambda claim: GonePilot(claim, unknown_outcome))


@pytest.fixture
def record_end(store: Store, ends: FinishedAttempts, spec: Spec) -> Take:
    """Take in the end of attempt 1-1; returns how it counts, None where that is put off."""
    (job,) = enqueue(store, spec)
    claim = a_claim(spec, job=job, boot=f"{PILOT_PREFIX}lp-1")

    def once(outcome: Outcome) -> Outcome | None:
        if not len(ends):
            ends.add(claim, outcome)
        for ended in ends._pending:
            ended.retry_at = 0.0
        due = ends.prepare_due()
        return due[0].outcome if due else None

    return once


def make_something(home: Home, spec: Spec) -> None:
    """Do what a worker on a node does that has made a file."""
    attempt = home.attempt(1, 1)
    attempt.folder.mkdir(parents=True)
    view = make_stage(
        attempt,
        spec.run_folder,
        DeclaredOutputs(models=frozenset({MODEL})),
        job=1,
        attempt_number=1,
    )
    (view.writable / MODEL).mkdir()
    (view.writable / MODEL / "best.pt").write_text("new")
    assert hand_over(attempt, spec.run_folder)


def disable_move_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "LONG_MOVE_TIMEOUT_S", 0.0)
    monkeypatch.setattr(endings, "MOVE_TIMEOUT_S", 0.0)


@of_both
def test_end_in_an_unresponsive_folder_is_recorded_when_it_responds(
    home: Home, spec: Spec, record_end: Take, done_outcome: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_something(home, spec)
    back = threading.Event()

    def hangs(attempt: Attempt, run_folder: Path, own_folder: str) -> None:
        assert back.wait(60)
        accept(attempt, run_folder, own_folder)

    disable_move_timeouts(
        monkeypatch
    )  # timeouts of a disk that refuses; one that hangs is waited for
    monkeypatch.setattr(answering, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(endings, "accept", hangs)
    assert record_end(done_outcome) is None
    assert record_end(done_outcome) is None
    back.set()
    until(lambda: record_end(done_outcome) == done_outcome, "it is taken in")


@pytest.mark.parametrize(
    ("planned", "begun", "earlier", "owner", "kept"),
    [
        (False, False, "", False, "old"),
        (False, False, "runs.moved", False, "new"),  # its own folder: it is done again
        (False, False, "runs.moved", True, "old"),  # it is a job of the original, too
        (False, True, "", False, "new"),  # the scheduler was killed while it moved the files
        (True, False, "", False, "new"),  # an entry of a task file: the last result counts
    ],
)
def test_folder_with_files_of_another_job_is_not_replaced(
    home: Home,
    store: Store,
    ends: FinishedAttempts,
    tmp_path: Path,
    planned: bool,
    begun: bool,
    earlier: str,
    owner: bool,
    kept: str,
) -> None:
    root = str(tmp_path / "project")
    spec = a_spec("train", "{job_folder}", root=root, run="night", hash="0f" * planned)
    (job,) = enqueue(store, spec)
    attempt, run_folder, final = home.attempt(job, 2), spec.run_folder, job_folder(spec, job)
    attempt.folder.mkdir(parents=True)
    if earlier:
        home.attempt(job, 1).folder.mkdir()
        home.attempt(job, 1).folder.joinpath(earlier).symlink_to("x")
    name = str(attempt_job_folder(spec, job).relative_to(run_folder))
    wanted = DeclaredOutputs(renamed=(name, str(final.relative_to(run_folder))))
    run_folder.mkdir(parents=True)
    made = make_stage(attempt, run_folder, wanted, job=job, attempt_number=2).writable / name
    made.mkdir(parents=True)
    (made / "new").write_text("")
    final.mkdir(parents=True)
    (final / "old").write_text("")
    if owner:
        other = Home(tmp_path / "other")
        make_home(other)
        record = json.dumps({"id": home_id(other.record), "folder": str(other.folder)})
        (final.parent / OWNER).write_text(record)
    if begun:
        stage = made.resolve().parents[2]
        stage.rename(f"{stage}.accepted")
    ends.add(a_claim(spec, job=job, number=2, boot=f"{PILOT_PREFIX}lp-1"), Done(at=1.0))
    (due,) = ends.prepare_due()
    assert [path.name for path in final.iterdir()] == [kept]
    if kept == "new":
        assert due.outcome == Done(at=1.0)
    else:
        why = f"cannot move its results to {final}: it has the files of another job. Move that folder away"
        assert isinstance(due.outcome, Failed)
        assert due.outcome.error == f"{why}, and continue with: launcher retry {job}"
        assert (made / "new").exists()


@of_both
def test_end_waits_until_outputs_of_a_node_are_visible(
    home: Home, spec: Spec, ends: FinishedAttempts, record_end: Take, done_outcome: Done
) -> None:
    assert ends.wait_s == inf
    make_something(home, spec)
    link = home.attempt(1, 1).folder / "runs"
    target = link.readlink()
    link.unlink()  # as a network file system does that has not seen it yet
    assert record_end(done_outcome) is None
    assert ends.wait_s <= MOVE_RETRY_S
    link.symlink_to(target)
    assert record_end(done_outcome) == done_outcome
    assert (spec.run_folder / MODEL / "best.pt").read_text() == "new"


@of_both
def test_job_without_visible_results_is_not_done(
    home: Home, spec: Spec, record_end: Take, done_outcome: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    disable_move_timeouts(monkeypatch)
    make_something(home, spec)
    (home.attempt(1, 1).folder / "runs").unlink()
    outcome = record_end(done_outcome)
    assert isinstance(outcome, Failed)
    assert f"{home.attempt(1, 1).folder}/runs is not visible" in outcome.error
    assert "launcher retry" in outcome.error


def test_job_without_outputs_is_done_at_once(record_end: Take) -> None:
    assert record_end(Done(at=1.0, has_results=False)) == Done(at=1.0, has_results=False)


@of_both
def test_outputs_that_cannot_be_moved_are_kept_for_the_next_attempt(
    home: Home, spec: Spec, record_end: Take, done_outcome: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    disable_move_timeouts(monkeypatch)
    make_something(home, spec)
    rename = os.rename

    def full(path: str, place: str) -> None:
        if "/.attempts/" not in place and place.endswith(MODEL):
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(path, place)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", full)
        outcome = record_end(done_outcome)
    assert isinstance(outcome, Failed)
    assert "No space left on device. Its files are kept" in outcome.error
    assert not (spec.run_folder / MODEL).exists()
    left = take_earlier_stage(home, 1, 2, spec.run_folder)
    assert (spec.run_folder / STAGES_FOLDER / f"{left}.left" / "test" / MODEL / "best.pt").exists()


# --- oom policy


Facts = Mapping[str, float]


def gib(amount: float) -> int:
    return round(amount * GIB)


def diagnose(told: Facts, scene: Facts, *, where: MemoryKind = "gpu") -> OomVerdict:
    """A verdict from the report of the program and the facts of the scheduler, both in GiB."""
    facts: dict[str, Any] = {name: gib(value) for name, value in told.items()}
    known: dict[str, Any] = {name: gib(value) for name, value in scene.items()}
    return diagnose_oom(OomReport(where=where, **facts), OomContext(**known))


OURS = {
    "it needed more than it was promised": (
        {"held": 9, "wanted": 2}, {"vram": 8, "total": 24, "others": 13}, 12.75,
    ),
    "it grew little": ({"held": 8, "wanted": 0.125}, {"vram": 8, "total": 24, "others": 8}, 10.0),
    "its cap stopped it": (
        {"held": 7.5, "wanted": 1, "cap": 7.5, "free": 6, "total": 24}, {"vram": 9}, 11.25,
    ),
    "it was measured to hold more": (
        {}, {"vram": 4, "peak": 6, "total": 24, "others": 12}, 7.25,
    ),
    "nobody else had taken it": ({}, {"vram": 4, "total": 24, "others": 10}, 6.0),
    "nobody can be blamed": ({"held": 3, "wanted": 0.5}, {"vram": 4}, 5.0),
    "it has a claim from now on": ({"held": 3, "wanted": 1}, {}, 5.0),
    "no more is asked than the card can give": (
        {"held": 20, "wanted": 2}, {"vram": 21, "total": 24, "others": 1}, 23.25,
    ),
    "the reserve is left to others": (
        {"held": 20, "wanted": 1}, {"vram": 20, "total": 24, "others": 2, "reserve": 1}, 22.25,
    ),
    "what it needs is more than the card has": (
        {"held": 20, "wanted": 9}, {"vram": 21, "total": 24, "others": 3}, 32.5,
    ),
    "it was alone": ({"held": 20, "wanted": 5}, {"total": 24, "others": 0.25}, 28.0),
    "it was alone, and its memory in pieces": (
        {"held": 20, "wanted": 1}, {"vram": 8, "total": 24, "others": 0}, 24.25,
    ),
    "it was alone and said nothing": ({}, {"total": 24, "others": 0.5}, 24.25),
}  # fmt: skip


@pytest.mark.parametrize(("told", "scene", "claim"), OURS.values(), ids=list(OURS))
def test_oom_by_own_usage_raises_the_reservation_without_a_charged_retry(
    told: Facts, scene: Facts, claim: float
) -> None:
    found = diagnose(told, scene)
    assert (found.blamed_on, found.charged) == ("ours", False)
    assert found.vram is not None
    assert found.vram / GIB == claim


NEIGHBOURS = {
    "others had what it was promised": (
        {"held": 3, "wanted": 1}, {"vram": 8, "total": 24, "others": 20}, 8,
    ),
    "the program saw them, though they were gone": (
        {"held": 3, "wanted": 1, "free": 0.5, "total": 24}, {"vram": 8, "others": 0}, 8,
    ),
    "a cap that the card could not honour": (
        {"held": 7.5, "wanted": 1, "cap": 8, "free": 0.5, "total": 24}, {"vram": 9}, 9,
    ),
    "nobody said how much it held": ({}, {"vram": 8, "total": 24, "others": 20}, 8),
    "it had no claim": ({"held": 3, "wanted": 1}, {"total": 24, "others": 20.5}, 5.0),
    "it had no claim and said nothing": ({}, {"total": 24, "others": 20}, 4.25),
}  # fmt: skip


@pytest.mark.parametrize(("told", "scene", "claim"), NEIGHBOURS.values(), ids=list(NEIGHBOURS))
def test_oom_by_other_jobs_keeps_the_reservation_without_a_charged_retry(
    told: Facts, scene: Facts, claim: float
) -> None:
    found = diagnose(told, scene)
    assert (found.blamed_on, found.charged) == ("neighbour", False)
    assert found.vram is not None
    assert found.vram / GIB == claim


@pytest.mark.parametrize(
    ("told", "promised", "whose", "charged"),
    [
        ({"held": 3, "wanted": 0}, 4, "machine", False),
        ({"held": 3, "wanted": 0.5}, 4, "machine", False),
        ({"held": 3, "wanted": 2}, 4, "ours", True),
        ({"held": 7.2}, 4, "ours", True),
        ({"held": 7.2}, None, "machine", True),
        ({"held": 3}, 4, "machine", True),
        ({}, 4, "machine", True),
        ({}, None, "machine", True),
    ],
)
def test_ram_oom_is_excused_only_within_the_reservation(
    told: Facts, promised: float | None, whose: str, charged: bool
) -> None:
    scene = {"vram": 6.0} if promised is None else {"vram": 6.0, "ram": promised}
    found = diagnose(told, scene, where="ram")
    assert (found.blamed_on, found.charged, found.vram) == (whose, charged, gib(6))


def test_unexplained_oom_is_charged_as_a_retry() -> None:
    assert diagnose({}, {}) == OomVerdict(
        blamed_on="ours", vram=None, why="used an unknown amount", charged=True
    )


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (
            diagnose({"held": 9, "wanted": 2}, {"vram": 8, "total": 24, "others": 13}),
            "used 9 GiB and needed 2 GiB more (reserved: 8 GiB)",
        ),
        (
            diagnose({"held": 3}, {"vram": 8, "total": 24, "others": 20}),
            "other processes used 20 GiB of 24 GiB, this job used 3 GiB (reserved: 8 GiB)",
        ),
        (
            diagnose({"held": 20, "wanted": 5}, {"total": 24, "others": 0}),
            "used 20 GiB and needed 5 GiB more, alone on a GPU of 24 GiB",
        ),
        (
            diagnose({"held": 7.2}, {"ram": 4}, where="ram"),
            "used 7.2 GiB (reserved: 4 GiB)",
        ),
    ],
)  # fmt: skip
def test_oom_verdict_states_numbers(found: OomVerdict, why: str) -> None:
    assert found.why == why


amounts = st.none() | st.integers(0, 200 * GIB)
shortages = st.builds(
    OomReport,
    where=st.sampled_from(["gpu", "ram"]),
    wanted=amounts,
    held=amounts,
    cap=amounts,
    free=amounts,
    total=amounts,
)
scenes = st.builds(
    OomContext,
    vram=amounts,
    total=amounts,
    others=amounts,
    peak=amounts,
    reserve=st.integers(0, 8 * GIB),
    ram=amounts,
)


@settings(max_examples=400, deadline=None)
@given(
    shortages, scenes, st.none() | st.integers(0, 200 * GIB), st.none() | st.integers(0, 200 * GIB)
)
def test_vram_request_only_grows_and_covers_the_measured_need(
    shortage: OomReport, scene: OomContext, claim: int | None, held: int | None
) -> None:
    anywhere = diagnose_oom(shortage, scene)
    assert anywhere.charged or anywhere.blamed_on != "ours" or anywhere.vram is not None
    assert anywhere.why
    shortage, scene = shortage._replace(where="gpu", held=held), scene._replace(vram=claim)
    found = diagnose_oom(shortage, scene)
    if claim is not None:
        assert found.vram is not None
        assert found.vram >= claim + STEP * (found.blamed_on == "ours")
    if held is not None:
        assert found.vram is not None
        assert found.vram >= held + (shortage.wanted or 0)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 40 * GIB), st.integers(GIB, 192 * GIB), shortages, amounts)
def test_job_that_never_fits_is_tried_a_limited_number_of_times(
    claim: int, total: int, shortage: OomReport, others: int | None
) -> None:
    tries = 0
    while claim <= total:
        found = diagnose_oom(
            shortage._replace(where="gpu"),
            OomContext(vram=claim, total=total, others=others),
        )
        if found.blamed_on != "ours":
            return  # its scheduler counts these
        assert found.vram is not None
        claim, tries = found.vram, tries + 1
    assert tries <= 35


@pytest.mark.parametrize(
    ("call", "trouble", "left", "is_restored"),
    [
        (
            "os.replace",
            "cannot restore the earlier file of its output {0}/y.csv: Device or resource busy",
            "an earlier output is left as {0}/.y.csv.launcher-1-1 (Device or resource busy)",
            False,
        ),
        (
            "shutil.rmtree",
            "cannot delete {0}/.y.csv.launcher-1-1.trash, its incomplete output: Device or",
            "its incomplete output is left as {0}/.y.csv.launcher-1-1.trash (Device or resource busy)",
            True,
        ),
    ],
)
def test_reason_names_what_could_not_be_restored_or_deleted(
    home: Home,
    store: Store,
    ends: FinishedAttempts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    trouble: str,
    left: str,
    is_restored: bool,
) -> None:
    output = tmp_path / "y.csv"
    (output / "full").mkdir(parents=True)  # the program left this in the place of a file
    aside = tmp_path / ".y.csv.launcher-1-1"
    aside.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    settings = {"outputs": [output.name]}
    spec = a_spec("train", root=str(tmp_path), settings=settings, outputs=(str(output),))
    (job,) = enqueue(store, spec)
    ends.add(claimed(store, job), FAILED)
    with monkeypatch.context() as patch:
        patch.setattr(call, refuse)
        assert not ends.prepare_due()
        disable_move_timeouts(patch)
        ends._pending[0].retry_at = 0.0
        (ended,) = ends.prepare_due()
    assert job_row(store, job).state_reason.code is ReasonCode.SETTLING
    assert trouble.format(tmp_path) in job_row(store, job).reason
    ends.finish(ended, 3.0)
    assert job_row(store, job).reason.endswith(f"; {left.format(tmp_path)}")
    assert (output if is_restored else aside).read_text() == "old"


# --- requeue policy


LANE = Lane(group="", resources=Resources(device="cuda"), environment=WorkerEnvironment())
FELL = a_gpu(fault="fell off the bus")
FALLEN = Eviction("cuda:0 fell off the bus")
FAILED = Failed(at=1.0, error="RuntimeError: boom")


def out_of_memory(**facts: Any) -> OutOfMemory:
    return OutOfMemory(at=1.0, error="CUDA out of memory", report=OomReport("gpu", **facts))


def gpu_fault_reason(text: str) -> Reason:
    return a_reason(text, ReasonCode.GPU_FAULT, fault="cuda:0 fell off the bus")


def requeue(
    outcome: Outcome,
    *gpus: Any,
    claim: int | None = 8 * GIB,
    device: str = "GPU-0",
    rerun: str = "again",
    number: int = 1,
    claimed: float = 0.0,
    entry: str = "",
    kind: str = "command",
    **known: Any,
) -> RequeueDecision | None:
    attempt = a_claim(
        a_spec(terms=Terms(rerun=rerun), entry=entry, kind=kind),
        number=number,
        device=device,
        vram=claim,
        claimed=claimed,
    )
    machine = Machine(cpus=4, gpus=gpus)
    return decide_requeue(attempt, LANE, outcome, machine, **known)


def test_done_or_failed_attempt_is_not_requeued() -> None:
    assert requeue(Done(at=1.0), FELL) is None
    assert requeue(FAILED, a_gpu()) is None
    assert requeue(Lost(at=1.0, why="killed"), a_gpu()) is None
    assert requeue(FAILED, FELL, device="cpu") is None


def test_attempt_on_a_failed_gpu_is_requeued_with_that_reason() -> None:
    told = "cuda:0 fell off the bus"
    assert requeue(FAILED, FELL) == RequeueDecision(
        reason=gpu_fault_reason(f"RuntimeError: boom: {told}")
    )
    assert requeue(out_of_memory(), FELL) == RequeueDecision(
        reason=gpu_fault_reason(f"CUDA out of memory: {told}")
    )
    assert requeue(Lost(at=1.0, why="killed"), FELL) == RequeueDecision(
        reason=gpu_fault_reason(told)
    )


def test_evicted_attempt_is_requeued_after_any_end() -> None:
    for outcome in (FAILED, out_of_memory(), Stopped(at=1.0)):
        decision = requeue(outcome, a_gpu(), eviction=FALLEN)
        assert decision == RequeueDecision(reason=gpu_fault_reason("cuda:0 fell off the bus"))
    assert requeue(Done(at=1.0), a_gpu(), eviction=FALLEN) is None


# --- a job with an estimate, when memory was short


FULL = Eviction("cuda:0 had only 1 GiB free", cause=EndCause.GPU_MEMORY, vram=9 * GIB)


def test_job_evicted_for_others_runs_again_alone_and_states_lost_work() -> None:
    decision = requeue(Stopped(at=150.0), a_gpu(), claim=None, claimed=100.0, eviction=FULL)
    told = "stopped: cuda:0 had only 1 GiB free"
    then = "Queued again on an empty GPU, 50 s of work lost"
    reason = a_reason(told, ReasonCode.OUT_OF_MEMORY, where="gpu", whose="neighbour")
    assert decision == RequeueDecision(
        reason=reason, follow_up_text=then, vram=9 * GIB, exclusive=True
    )
    skewed = requeue(Stopped(at=50.0), a_gpu(), claim=None, claimed=100.0, eviction=FULL)
    assert skewed is not None
    assert skewed.follow_up_text.endswith(", 0 s of work lost")


@pytest.mark.parametrize(
    ("entry", "kind", "told"),
    [
        ("lab:train", "train", "it resumes after 50 s of work"),
        ("lab:train", FUNCTION, "50 s of work lost"),
        ("", "command", "50 s of work lost"),
    ],
)
def test_job_evicted_for_others_states_whether_it_resumes(entry: str, kind: str, told: str) -> None:
    decision = requeue(
        Stopped(at=150.0), a_gpu(), claim=None, claimed=100.0, eviction=FULL, entry=entry, kind=kind
    )
    assert decision is not None
    assert decision.reason.text == "stopped: cuda:0 had only 1 GiB free"
    assert decision.follow_up_text == f"Queued again on an empty GPU, {told}"


def test_attempt_that_ended_before_its_eviction_keeps_its_outcome() -> None:
    assert requeue(Done(at=1.0), a_gpu(), claim=None, eviction=FULL) is None
    assert requeue(FAILED, a_gpu(), claim=None, eviction=FULL) is None
    lacked = requeue(
        out_of_memory(held=8 * GIB, wanted=2 * GIB), a_gpu(used=20), claim=None, eviction=FULL
    )
    assert lacked is not None
    assert lacked.reason.text.startswith("out of memory: ")


@pytest.mark.parametrize("number", [1, 2, SHORTAGES_BESIDE_OTHERS - 1, SHORTAGES_BESIDE_OTHERS, 4])
def test_too_small_estimate_is_raised_and_finally_replaced_by_an_exclusive_gpu(
    number: int,
) -> None:
    decision = requeue(
        out_of_memory(held=8 * GIB, wanted=2 * GIB), a_gpu(used=20), claim=None, number=number
    )
    assert decision is not None
    assert decision.vram is not None
    assert decision.vram >= 10 * GIB
    assert decision.exclusive is (number >= SHORTAGES_BESIDE_OTHERS)
    assert (decision.max_attempts, decision.backoff_s) == (MOST_SHORTAGES, 0.0)


def test_job_with_an_estimate_waits_for_memory_without_a_pause() -> None:
    outcome, card = out_of_memory(held=2 * GIB, wanted=1 * GIB), a_gpu(total=40, used=38)
    estimated, declared = requeue(outcome, card, claim=None), requeue(outcome, card)
    assert estimated is not None
    assert declared is not None
    assert "other processes used " in estimated.reason.text
    assert (estimated.backoff_s, declared.backoff_s) == (0.0, CROWDED_PAUSE_S)
    assert (declared.exclusive, declared.max_attempts) == (False, REQUEUE_LIMIT)


def test_oom_job_is_requeued_at_most_four_times(store: Store) -> None:
    spec = a_spec(resources=Resources(device="cuda"))
    (job,) = enqueue(store, spec)
    states = []
    for number in range(1, MOST_SHORTAGES + 1):
        claim = claimed(store, job, device="GPU-0")
        outcome = out_of_memory(held=8 * GIB, wanted=2 * GIB)
        lane = store.ready_jobs.lane_of_job(job)
        decision = decide_requeue(
            replace(claim, vram=None, exclusive=False),
            lane,
            outcome,
            Machine(cpus=4, gpus=(a_gpu(total=80, used=40),)),
        )
        assert decision is not None
        store.transitions.finish_attempt(claim, outcome, outputs={}, now=number, requeue=decision)
        states.append(job_row(store, job).state)
        assert store.ready_jobs.lane_of_job(job).made_exclusive is (
            number >= SHORTAGES_BESIDE_OTHERS
        )
    assert states == [State.QUEUED] * 4 + [State.FAILED]
    assert job_row(store, job).reason.endswith(" (5 times)")


def test_gpu_failures_do_not_count_as_oom(store: Store) -> None:
    spec = a_spec(resources=Resources(device="cuda"))
    (job,) = enqueue(store, spec)
    ends: list[tuple[Outcome, GpuSnapshot]] = [(FAILED, FELL)] * (MOST_SHORTAGES - 1)
    ends += [
        (out_of_memory(held=8 * GIB, wanted=2 * GIB), a_gpu(total=80, used=40))
    ] * MOST_SHORTAGES
    states = []
    for now, (outcome, gpu) in enumerate(ends, 1):
        claim = claimed(store, job, device="GPU-0")
        attempt = replace(claim, vram=None, exclusive=False)
        lane, machine = store.ready_jobs.lane_of_job(job), Machine(cpus=4, gpus=(gpu,))
        decision = decide_requeue(attempt, lane, outcome, machine)
        assert decision is not None
        store.transitions.finish_attempt(claim, outcome, outputs={}, now=now, requeue=decision)
        states.append(job_row(store, job).state)
    assert states == [State.QUEUED] * (len(ends) - 1) + [State.FAILED]
    assert job_row(store, job).reason.endswith(f" ({MOST_SHORTAGES} times)")


def test_eviction_updates_similar_jobs_at_once_and_the_job_stays_alone(
    store: Store,
) -> None:
    argv = ("train.py", "--a")
    gpu, signature = Resources(device="cuda"), program_signature(argv)
    spec = a_spec(*argv, signature=signature, resources=gpu)
    (job,) = enqueue(store, spec)
    claim = claimed(store, job, device="GPU-0")
    outcome = Stopped(at=20.0)
    moved = decide_requeue(claim, LANE, outcome, Machine(cpus=4), eviction=FULL)
    measured = MeasuredUsage(peak=6 * GIB)
    store.transitions.finish_attempt(
        claim, outcome, outputs={}, now=20.0, measured_usage=measured, requeue=moved
    )
    assert job_row(store, job).state is State.QUEUED
    lane = store.ready_jobs.lane_of_job(job)
    assert (lane.made_exclusive, lane.least_vram) == (True, 9 * GIB)
    (ready,) = store.ready_jobs.read_ready(4)
    need = gpu_request_of(make_waiting(ready, store.usage_records.usage(signature, ready.program)))
    assert (need.exclusive, need.vram) == (True, 13.5 * GIB)  # half as much again
    other = program_signature(("train.py", "--b"))
    assert store.usage_records.usage(other, "train.py").similar.peaks == (6 * GIB,)
    assert store.usage_records.usage(signature, "train.py").peaks == (), "it is less than it needs"


def test_job_above_its_reservation_gets_more_at_once() -> None:
    decision = requeue(out_of_memory(held=8 * GIB, wanted=2 * GIB), a_gpu(total=40, used=20))
    assert decision is not None
    assert decision.vram is not None
    assert decision.vram >= 10 * GIB
    assert (decision.is_unsatisfiable, decision.backoff_s) == (False, 0.0)
    assert decision.reason.text.startswith("out of memory: used ")


def test_job_without_memory_because_of_others_pauses_and_keeps_its_request() -> None:
    decision = requeue(out_of_memory(held=2 * GIB, wanted=1 * GIB), a_gpu(total=40, used=38))
    assert decision is not None
    assert (decision.vram, decision.backoff_s) == (8 * GIB, CROWDED_PAUSE_S)
    assert decision.reason.text.startswith("out of memory: other processes used ")
    assert decision.follow_up_text == "Queued again"


def test_usage_of_departed_processes_is_considered() -> None:
    outcome, card = out_of_memory(held=2 * GIB, wanted=1 * GIB), a_gpu(total=40, used=2)
    now, then = requeue(outcome, card), requeue(outcome, card, others_usage={"GPU-0": 38 * GIB})
    assert now is not None
    assert then is not None
    assert "other processes" not in now.reason.text
    assert "other processes" in then.reason.text


def test_cpu_job_gets_no_larger_vram_request() -> None:
    assert requeue(out_of_memory(held=2 * GIB, wanted=1 * GIB), a_gpu(), device="cpu") is None


def test_job_too_large_for_every_gpu_is_not_retried() -> None:
    decision = requeue(out_of_memory(held=30 * GIB, wanted=20 * GIB), a_gpu(total=40))
    assert decision is not None
    assert decision.is_unsatisfiable
    assert "but cuda:0 has at most 40 GiB for it" in decision.reason.text


def test_larger_gpu_elsewhere_permits_a_retry() -> None:
    gpus = a_gpu(0, total=24), a_gpu(1, total=80, used=70)
    decision = requeue(out_of_memory(held=20 * GIB, wanted=9 * GIB), *gpus, claim=20 * GIB)
    assert decision is not None
    assert not decision.is_unsatisfiable


@pytest.mark.parametrize("gpus", [(), (a_gpu(used=None),)])
def test_attempt_without_facts_is_charged(gpus: tuple[Any, ...]) -> None:
    assert requeue(out_of_memory(), *gpus, claim=None) is None


def test_non_repeatable_job_is_not_requeued_after_a_lost_end() -> None:
    card = a_gpu(fault="has fallen off the bus")
    assert requeue(Lost(at=1.0, why="killed"), card, rerun="never") is None
    assert requeue(Lost(at=1.0, why="killed"), card, eviction=FALLEN, rerun="never") is None


def test_non_repeatable_job_is_not_moved_to_another_gpu() -> None:
    decision = requeue(Stopped(at=1.0), a_gpu(), eviction=FALLEN, rerun="never")
    assert decision == RequeueDecision(
        reason=gpu_fault_reason("cuda:0 fell off the bus, not queued again (rerun: never)"),
        is_unsatisfiable=True,
    )
    assert requeue(Stopped(at=1.0), FELL, rerun="never") is None


def test_unobserved_job_is_not_reported_as_alone() -> None:
    decision = requeue(out_of_memory(held=None, wanted=None), a_gpu(total=24, used=0))
    assert decision is not None
    assert not decision.is_unsatisfiable
    assert "alone" not in decision.reason.text
