"""Which jobs go to which pilots and their GPUs, why others wait, how many pilots these could use, and how the user's file is read again."""

import errno
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.queue.backends.pilot_messages import Drain, Heartbeat, Registered, StartAttempt
from launcher.queue.backends.pilot_rules import Demand
from launcher.queue.backends.settings import Backends, BackendSettings, read_configured_backends
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.job import Resources
from launcher.queue.jobs.states import Done, ReasonCode
from launcher.queue.scheduler import attempt_specs
from launcher.queue.scheduler.backfill_holds import RECONSIDER_S, BackfillHolds
from launcher.queue.scheduler.cycle import ControlState, CycleResult
from launcher.queue.scheduler.gpus.eviction import Eviction
from launcher.queue.scheduler.pilot_demand import WaitingLane, pilot_demands
from launcher.queue.scheduler.pilot_node import PilotNode, pilot_obstacle
from launcher.queue.scheduler.policy.co_location import UNMEASURED_MOST
from launcher.queue.scheduler.policy.disciplines import EASY
from launcher.queue.scheduler.policy.model import Decision, Start, Wait, Waiting
from launcher.queue.scheduler.startable_jobs import StartableJobs
from launcher.queue.scheduler.started_attempts import Assignment, PendingOutcome
from launcher.queue.scheduler.succession import DECISION_VALID_S, SlotReuse
from launcher.queue.store.lanes import Lane
from launcher.queue.store.usage import MeasuredUsage
from launcher.queue.workers import fork_server_pool
from launcher.queue.workers.attempt_spec import read_attempt_spec
from launcher.queue.workers.fork_server_pool import CannotStartWorker
from launcher.queue.workers.memory_share import DEFAULT_CONTEXT_BYTES, Share, read_share
from launcher.system.answering import FilesystemTimeout
from launcher.system.config import WatchedConfig
from launcher.system.errors import UsageError
from tests.build import GIB, a_gpu, a_spec, claimed, until
from tests.launcher.scheduler.dispatch.conftest import NOW, DispatchHarness
from tests.launcher.scheduler.remote.toy_cluster import HELLO, Pilot, ToyClock, World

# --- which jobs go to which pilots, and why others wait


def test_jobs_start_on_a_pilot_with_free_cores_and_others_have_a_reason(
    dispatch_harness: DispatchHarness,
) -> None:
    pilot = dispatch_harness.pilot()
    first, second, _ = dispatch_harness.queue("box", jobs=3)
    assert dispatch_harness.waiting_reason() == "waiting for box: 1 CPU core (0 of 2 free)"
    assert pilot.runs() == [first, second]
    assert [claim.pilot for claim in dispatch_harness.store.claims.open_claims()] == [
        "lp-1",
        "lp-1",
    ]
    assert dispatch_harness.waiting_reason() == "waiting for box: all 2 cores of its pilot are busy"


def test_next_scheduler_knows_the_pilot_of_an_attempt_before_its_first_decision(
    dispatch_harness: DispatchHarness,
) -> None:
    dispatch_harness.pilot()
    dispatch_harness.queue("box")
    dispatch_harness.decide()
    (claim,) = dispatch_harness.store.claims.open_claims()
    dispatch_harness.begin()
    node = dispatch_harness.nodes.host_of(claim)
    assert isinstance(node, PilotNode)
    assert node.link.token == "lp-1"


def test_slot_is_reused_while_the_last_decision_holds(dispatch_harness: DispatchHarness) -> None:
    dispatch_harness.queue("local")
    (job,) = dispatch_harness.store.ready_jobs.read_ready(9)
    reuse = SlotReuse(
        dispatch_harness.store.ready_jobs, dispatch_harness.launches, dispatch_harness.local
    )
    reuse.allow(job.job_class, 10.0)
    assert not reuse.has_slots(10.0)
    reuse.add_freed(Assignment(job=job, start=Start(job.id, devices=(), cpus=1, reason="fits")))
    assert reuse.has_slots(10.0)
    assert not reuse.has_slots(10.0 + DECISION_VALID_S)


def test_second_pilot_gets_jobs_that_do_not_fit_the_first(
    dispatch_harness: DispatchHarness,
) -> None:
    pilots = [dispatch_harness.pilot("lp-1"), dispatch_harness.pilot("lp-2")]
    dispatch_harness.queue("box", jobs=3)
    assert [*dispatch_harness.decide().values()] == [None]
    assert [len(pilot.orders()) for pilot in pilots] == [2, 1]


def test_job_runs_only_on_its_permitted_backends(dispatch_harness: DispatchHarness) -> None:
    dispatch_harness.pilot(backend="farm")
    dispatch_harness.queue("box")
    assert (
        dispatch_harness.waiting_reason(here=9)
        == "waiting for box: its first pilot will be submitted next"
    )
    assert not dispatch_harness.launches.started_here


def test_reason_states_why_a_backend_has_no_pilot(dispatch_harness: DispatchHarness) -> None:
    dispatch_harness.fleet.why["box"] = "2 pilots wait in box: Resources"
    dispatch_harness.queue("box")
    (reason,) = dispatch_harness.decide().values()
    assert reason is not None
    assert (reason.text, reason.code) == (
        "waiting for box: 2 pilots wait in box: Resources",
        "no-pilot",
    )


def test_first_named_backend_is_tried_first(dispatch_harness: DispatchHarness) -> None:
    pilot = dispatch_harness.pilot()
    (first,) = dispatch_harness.queue("local", "box")
    dispatch_harness.decide(here=1)
    assert (dispatch_harness.launches.started_here, pilot.orders()) == ([first], [])


def test_job_without_room_on_the_first_backend_starts_on_the_next(
    dispatch_harness: DispatchHarness,
) -> None:
    pilot = dispatch_harness.pilot()
    first, second = dispatch_harness.queue("local", "box", jobs=2)
    dispatch_harness.decide(here=1)
    assert dispatch_harness.launches.started_here == [first]
    assert pilot.runs() == [second]


def test_reason_names_both_permitted_backends(dispatch_harness: DispatchHarness) -> None:
    dispatch_harness.queue("box", "farm", spec=a_spec(cpus=3))
    assert dispatch_harness.waiting_reason() == (
        "waiting for box: needs 3 CPU cores, but a pilot of box has 2 (raise `cpus` in [backends.box]); "
        "farm: its first pilot will be submitted next"
    )


def test_reason_names_a_removed_backend(dispatch_harness: DispatchHarness) -> None:
    dispatch_harness.queue("gone")
    assert dispatch_harness.waiting_reason() == (
        "waiting for gone: config.toml does not contain [backends.gone]. "
        "Add this table or cancel the job"
    )


def test_job_with_a_limit_that_ends_after_its_pilot_is_not_sent_there(
    dispatch_harness: DispatchHarness,
) -> None:
    dispatch_harness.pilot(until=1000.0 + 60.0)
    dispatch_harness.queue("box", time_limit_s=61.0)
    assert (
        dispatch_harness.waiting_reason()
        == "waiting for box: may run for 1 m 1 s, but this pilot ends in 1 m"
    )
    (job,) = dispatch_harness.queue("box", time_limit_s=60.0, retries=1)
    dispatch_harness.decide()
    assert [claim.job for claim in dispatch_harness.store.claims.open_claims()] == [job]


def test_job_gets_its_requested_cores_or_waits(dispatch_harness: DispatchHarness) -> None:
    dispatch_harness.pilot(cpus=1)
    dispatch_harness.queue("box", spec=a_spec(cpus=2))
    assert (
        dispatch_harness.waiting_reason()
        == "waiting for box: needs 2 CPU cores, but this pilot has 1"
    )


def test_pilot_with_faults_gets_no_job(dispatch_harness: DispatchHarness) -> None:
    pilot = dispatch_harness.pilot(troubles=("/data is not seen",))
    dispatch_harness.queue("box")
    dispatch_harness.decide()
    assert pilot.orders() == []


def test_limit_of_a_group_applies_to_all_machines(dispatch_harness: DispatchHarness) -> None:
    dispatch_harness.limits["few"] = 1
    pilots = [dispatch_harness.pilot("lp-1"), dispatch_harness.pilot("lp-2")]
    dispatch_harness.queue("box", jobs=3, group="few")
    assert (
        dispatch_harness.waiting_reason()
        == "waiting for box: group 'few' (it runs 1 job, its limit is 1)"
    )
    assert (
        dispatch_harness.waiting_reason()
        == "waiting for box: group 'few' (it runs 1 job, its limit is 1)"
    )
    assert [len(pilot.orders()) for pilot in pilots] == [1, 0]


def test_a_start_on_a_pilot_counts_in_its_group_for_this_machine_at_once(
    dispatch_harness: DispatchHarness,
) -> None:
    dispatch_harness.limits["few"] = 1
    pilot = dispatch_harness.pilot()
    first, _ = dispatch_harness.queue("box", "local", jobs=2, group="few")
    dispatch_harness.decide()
    assert pilot.runs() == [first]
    assert [(run.job, run.group) for run in dispatch_harness.local.elsewhere] == [(first, "few")]


def test_an_error_in_one_partition_takes_back_the_claims_of_the_others(
    dispatch_harness: DispatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that were committed without its start would keep its job running for ever."""

    def fail(*_: object, **__: object) -> list[Decision]:
        raise RuntimeError("a fault of the scheduler")

    pilot = dispatch_harness.pilot()
    dispatch_harness.queue("box")
    dispatch_harness.queue("local", group="other")
    monkeypatch.setattr(dispatch_harness.local, "decide", fail)
    with pytest.raises(RuntimeError):
        dispatch_harness.admission.decide(ControlState(), CycleResult())
    dispatch_harness.launches.rollback()
    assert (dispatch_harness.store.claims.open_claims(), pilot.orders()) == ([], [])


def test_reported_ends_are_read_while_jobs_wait_only_for_this_machine(
    dispatch_harness: DispatchHarness,
) -> None:
    running, _ = dispatch_harness.queue("local", jobs=2)
    claim = claimed(dispatch_harness.store, running, now=NOW - 60)
    dispatch_harness.attempts.add(claim, PendingOutcome(read_outcome=lambda: None))
    attempt, now = dispatch_harness.home.attempt(*claim.key), time.time()
    attempt.folder.mkdir(parents=True)
    steps = [
        {"at": now - 20 + 10 * n, "step": 10 + 10 * n, "total": 100, "metrics": {}}
        for n in range(3)
    ]
    attempt.progress.write_text("".join(f"{json.dumps(step)}\n" for step in steps))
    dispatch_harness.decide()
    dispatch_harness.admission.poll_nodes(CycleResult())
    assert [run.ends is not None for run in dispatch_harness.local.running()] == [True]


def test_pilot_pool_receives_demand_and_attempts_per_pilot(
    dispatch_harness: DispatchHarness,
) -> None:
    dispatch_harness.pilot()
    dispatch_harness.queue("box", jobs=5)
    dispatch_harness.decide()
    demand, busy = dispatch_harness.requested_pilots()
    assert (demand["box"].jobs, demand["box"].pilots) == (3, 2)
    assert demand["box"].paths == ("/",)  # the folder of a program
    assert busy == {"lp-1": 2}


@pytest.mark.parametrize(
    ("cwd", "paths"), [("", {"/", "/nowhere"}), ("/data", {"/data", "/nowhere"}), ("{job_folder}", {"/nowhere"})]
)  # fmt: skip
def test_a_node_must_see_the_project_of_a_program_with_a_folder_of_its_own(
    dispatch_harness: DispatchHarness, cwd: str, paths: set[str]
) -> None:
    settings = {"cwd": cwd, "env": {"OUT": "{job_folder}"}}
    dispatch_harness.queue("box", spec=a_spec(settings=settings))
    dispatch_harness.decide()
    dispatch_harness.requested_pilots()
    assert {*dispatch_harness.fleet.turns[-1][0]["box"].paths} == paths


def test_local_jobs_create_no_pilot_demand(dispatch_harness: DispatchHarness) -> None:
    dispatch_harness.queue()
    dispatch_harness.decide()
    assert dispatch_harness.requested_pilots() == ({}, {})
    assert not dispatch_harness.pilot_events.poll_messages()


def test_new_work_after_a_count_is_counted(dispatch_harness: DispatchHarness) -> None:
    dispatch_harness.requested_pilots()
    dispatch_harness.queue("box")
    dispatch_harness.decide()
    demand, _ = dispatch_harness.requested_pilots()
    assert demand["box"].jobs == 1
    dispatch_harness.queue(
        "box", jobs=2, retries=1
    )  # jobs of the same lane: it is examined again soon
    dispatch_harness.decide()
    result = CycleResult()
    dispatch_harness.partitions.request_pilots(ControlState(), result)
    assert result.max_sleep_s <= 0.5


def test_started_work_requests_no_further_pilot(dispatch_harness: DispatchHarness) -> None:
    dispatch_harness.queue("box")
    dispatch_harness.decide()
    dispatch_harness.requested_pilots()
    dispatch_harness.pilot()
    dispatch_harness.decide()
    dispatch_harness.requested_pilots()
    waiting = [
        {name: demand.jobs for name, demand in run_cycle.items()}
        for run_cycle, _ in dispatch_harness.fleet.turns
    ]
    assert waiting == [{"box": 1}, {}]


# --- for a job that fits nowhere a place is kept on one pilot, not on each of them


@pytest.fixture
def clock() -> ToyClock:
    return ToyClock()


def run_cycle(places: BackfillHolds, **free_at: float) -> None:
    """Have a turn in which these pilots keep a place for job 1, where they may."""
    places.begin_cycle()
    for token, at in free_at.items():
        if places.may_hold(1, token):
            places.record_decisions(token, [Wait(job=1, reason="", reserved_from=at)])


def holders(places: BackfillHolds, *tokens: str) -> list[str]:
    return [token for token in tokens if places.may_hold(1, token)]


def test_first_free_pilot_holds_the_reservation(clock: ToyClock) -> None:
    places = BackfillHolds(clock)
    run_cycle(places, a=50.0, b=20.0, c=70.0)
    places.begin_cycle()
    assert holders(places, "a", "b", "c") == ["b"]


def test_reservation_stays_on_a_pilot_until_the_next_comparison(clock: ToyClock) -> None:
    places = BackfillHolds(clock)
    run_cycle(places, a=50.0, b=20.0)
    run_cycle(places, a=10.0, b=20.0)
    assert holders(places, "a", "b") == ["b"]
    clock.now += RECONSIDER_S
    run_cycle(places, a=10.0, b=20.0)
    run_cycle(places, a=10.0, b=20.0)
    assert holders(places, "a", "b") == ["a"]


def test_lost_pilot_holds_no_reservation(clock: ToyClock) -> None:
    places = BackfillHolds(clock)
    run_cycle(places, a=50.0, b=20.0)
    run_cycle(places, a=50.0, b=20.0)
    run_cycle(places, a=50.0)  # b is gone
    run_cycle(places, a=50.0)
    run_cycle(places, a=50.0)
    assert holders(places, "a") == ["a"]


def test_job_behind_a_wide_one_starts_on_a_pilot_without_a_reservation(
    dispatch_harness: DispatchHarness,
) -> None:
    first, second = dispatch_harness.pilot("lp-1"), dispatch_harness.pilot("lp-2")
    job, *_ = dispatch_harness.queue("box", jobs=3)
    dispatch_harness.decide()
    dispatch_harness.end(first, f"{job}-1", Done(at=NOW))
    dispatch_harness.poll_ends()
    dispatch_harness.queue("box", spec=a_spec(cpus=2), group="wide", retries=1)
    (narrow,) = dispatch_harness.queue("box", group="narrow")
    first.orders(), second.orders()
    dispatch_harness.decide(discipline=EASY)
    assert (first.orders(), second.orders()) == ([], [])  # each might keep it
    dispatch_harness.decide(discipline=EASY)
    assert (first.orders(), second.orders()) == ([], [StartAttempt(attempt=f"{narrow}-1")])


# --- the user's file is read again when it was changed; while it cannot be understood, nothing is taken for gone


GOOD = '[backends.toy]\nkind = "slurm"\ncpus = 2\n'
BAD = '[backends.toy]\nkind = "slurm"\ncpus = "many"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


@pytest.fixture
def watch_config(file: Path) -> WatchedConfig[Backends]:
    return WatchedConfig({"LAUNCHER_CONFIG": str(file)}, read_configured_backends, lambda _: None)


def test_backends_are_read_from_a_new_configuration_file(
    watch_config: WatchedConfig[Backends], file: Path
) -> None:
    file.write_text("")
    assert watch_config() == Backends()
    file.write_text(GOOD)
    assert watch_config().by_name["toy"].cpus == 2


def test_last_valid_configuration_stays_in_use_after_an_error(
    watch_config: WatchedConfig[Backends], file: Path
) -> None:
    file.write_text(GOOD)
    before = watch_config()
    file.write_text(BAD)
    assert watch_config() == before


def test_never_valid_configuration_differs_from_one_without_backends(
    watch_config: WatchedConfig[Backends], file: Path
) -> None:
    file.write_text(BAD)
    for _ in range(2):
        with pytest.raises(UsageError, match="cpus"):
            watch_config()
    file.write_text(GOOD)
    assert watch_config().by_name.keys() == {"toy"}


def test_new_scheduler_with_an_invalid_configuration_drains_no_pilot(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.need(2)
    world.turn()
    waits, runs = world.cluster.submitted
    world.cluster.run(runs)
    world.by_token[runs].speak(world.clock.now)
    world.turn()

    world.mistake = "config.toml:3: cpus"
    world.new_fleet()
    world.pass_time(30, speaking=[runs])
    assert world.cluster.cancelled == []
    assert not world.by_token[runs].is_draining
    assert waits in world.cluster.alive()


def test_reason_of_a_waiting_job_states_the_configuration_error(
    dispatch_harness: DispatchHarness,
) -> None:
    def mistaken() -> Backends:
        raise UsageError("config.toml:3: backends.box.cpus: expected a whole number")

    dispatch_harness.partitions._backends = mistaken
    dispatch_harness.queue("box")
    (reason,) = dispatch_harness.decide().values()
    assert reason is not None
    assert reason.code is ReasonCode.NO_PILOT
    assert "config.toml has an error: config.toml:3: backends.box.cpus" in reason.text


# --- GPUs of pilots: recorded usage of jobs there, and memory limits on shared GPUs


CARD = a_gpu(total=40)


@pytest.fixture
def pilot(dispatch_harness: DispatchHarness) -> Pilot:
    """A pilot with a GPU."""
    return dispatch_harness.pilot(cpus=8, gpus=(CARD,))


def on_gpu(gib: float | None = 10, **changes: object) -> Resources:
    vram = None if gib is None else round(gib * GIB)
    return Resources(device="cuda", vram=vram, **changes)  # type: ignore[arg-type]


def report_gpu_usage(pilot: Pilot, number: int, used: float, **attempts: float) -> None:
    """Let a pilot report the usage of its GPU, and the part of jobs 1, 2 …."""
    by = {
        f"{name.removeprefix('job')}-1": {CARD.uuid: round(gib * GIB)}
        for name, gib in attempts.items()
    }
    gpus = (replace(CARD, used=round(used * GIB)),)
    pilot.tell(Heartbeat(number=number, gpus=gpus, used=by))


def test_two_jobs_share_a_gpu_of_a_pilot_if_their_memory_fits(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    dispatch_harness.queue("box", jobs=3, spec=a_spec(resources=on_gpu(15)))
    dispatch_harness.decide()
    assert pilot.runs() == [1, 2]
    assert [claim.gpus for claim in dispatch_harness.store.claims.open_claims()] == [
        (CARD.uuid,)
    ] * 2


def test_at_most_four_jobs_of_unknown_load_share_a_gpu_of_a_pilot(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    dispatch_harness.queue("box", jobs=UNMEASURED_MOST + 1, spec=a_spec(resources=on_gpu(2)))
    dispatch_harness.decide()
    assert pilot.runs() == [1, 2, 3, 4], "beats tell no loads"


def test_job_with_a_known_full_load_runs_alone_on_a_gpu_of_a_pilot(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    heavy = a_spec(resources=on_gpu(2), signature="train 1")
    dispatch_harness.queue("box", spec=heavy)
    dispatch_harness.decide()
    (claim,) = dispatch_harness.store.claims.open_claims()
    known = MeasuredUsage(peak=GIB, sm=0.97)
    dispatch_harness.store.transitions.finish_attempt(
        claim, Done(at=NOW), outputs={}, now=NOW, measured_usage=known
    )
    dispatch_harness.attempts.remove(claim.job)
    dispatch_harness.queue("box", jobs=2, spec=heavy, retries=1)
    assert "is expected to be 97 % busy with job 2" in dispatch_harness.waiting_reason()
    assert pilot.runs()[1:] == [2]


def test_a_job_with_gpu_numbers_gets_those_of_its_node(dispatch_harness: DispatchHarness) -> None:
    given = tuple(a_gpu(number, total=40, uuid=f"GPU-{number}") for number in (2, 5))
    pilot = dispatch_harness.pilot(cpus=8, gpus=given)
    last = Resources(device="cuda:5", vram=15 * GIB)
    dispatch_harness.queue("box", spec=a_spec(resources=last._replace(gpu_ids="numbers")))
    dispatch_harness.queue("box", spec=a_spec(resources=last), retries=1)
    dispatch_harness.decide()
    orders = [
        read_attempt_spec(pilot.folder.attempt(f"{job}-1").spec.read_bytes())
        for job in pilot.runs()
    ]
    assert [order.visible_gpus for order in orders] == ["5", "GPU-5"]


def test_a_job_with_gpu_numbers_is_not_sent_to_a_pilot_with_mig_instances(
    dispatch_harness: DispatchHarness,
) -> None:
    pilot = dispatch_harness.pilot(cpus=8, gpus=(a_gpu(0, total=40, mig=1, uuid="MIG-a"),))
    dispatch_harness.queue("box", spec=a_spec(resources=on_gpu(gpu_ids="numbers")))
    assert (
        "gpu_ids=numbers does not work on a machine with MIG" in dispatch_harness.waiting_reason()
    )
    assert pilot.orders() == []


def test_job_that_needs_a_gpu_is_not_sent_to_a_pilot_without_one(
    dispatch_harness: DispatchHarness,
) -> None:
    pilot = dispatch_harness.pilot()  # it was to have one, and got none
    dispatch_harness.queue("box", spec=a_spec(resources=on_gpu()))
    assert (
        dispatch_harness.waiting_reason() == "waiting for box: needs a GPU, but this pilot has none"
    )
    assert pilot.orders() == []


def test_used_memory_on_a_gpu_of_a_pilot_prevents_placement(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    report_gpu_usage(pilot, 1, 35)
    dispatch_harness.queue("box", spec=a_spec(resources=on_gpu(10)))
    dispatch_harness.poll_gpus()
    dispatch_harness.decide()
    assert pilot.orders() == []
    report_gpu_usage(pilot, 2, 1)
    dispatch_harness.poll_gpus()
    dispatch_harness.decide()
    assert pilot.runs() == [1]


def test_usage_on_a_pilot_is_stored_with_its_gpu_type(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    dispatch_harness.queue("box", spec=a_spec(resources=on_gpu(15)))
    dispatch_harness.decide()
    report_gpu_usage(pilot, 1, 12, job1=12)
    dispatch_harness.poll_gpus()
    (claim,) = dispatch_harness.store.claims.open_claims()
    measured = dispatch_harness.measured_usage(claim)
    assert (measured.peak, measured.machine) == (12 * GIB, CARD.fingerprint)


def test_peak_of_a_short_job_is_the_last_report_of_its_worker(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    dispatch_harness.queue("box", spec=a_spec(resources=on_gpu(15)))
    dispatch_harness.decide()
    (claim,) = dispatch_harness.store.claims.open_claims()
    share = Share(pilot.folder.attempt("1-1").folder)
    share.report(reserved_bytes=GIB, peak=3 * GIB, last=True)
    assert dispatch_harness.measured_usage(claim).peak == 3 * GIB + DEFAULT_CONTEXT_BYTES


def test_jobs_that_share_a_gpu_of_a_pilot_get_their_memory_limits(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    dispatch_harness.queue("box", jobs=2, spec=a_spec(resources=on_gpu(15)))
    dispatch_harness.decide()
    report_gpu_usage(pilot, 1, 28, job1=12, job2=16)
    dispatch_harness.poll_gpus()
    for node in dispatch_harness.nodes.list_nodes():
        node.send_limits()
    limits = [read_share(pilot.folder.attempt(name)) for name in ("1-1", "2-1")]
    assert [limit and limit.cap for limit in limits] == [15 * GIB, 16 * GIB]


def test_memory_of_an_attempt_that_has_just_ended_counts_as_free(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    dispatch_harness.queue("box", spec=a_spec(resources=on_gpu(30)))
    dispatch_harness.decide()
    report_gpu_usage(pilot, 1, 30, job1=30)
    dispatch_harness.poll_gpus()
    dispatch_harness.attempts.remove(1)
    (place,) = dispatch_harness.nodes.list_pilots()
    assert [gpu.used for gpu in place.machine({}).gpus] == [0]


def test_job_on_a_failed_gpu_of_a_pilot_is_evicted(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    dispatch_harness.queue("box", spec=a_spec(resources=on_gpu()))
    dispatch_harness.decide()
    pilot.tell(Heartbeat(number=1, gpus=(replace(CARD, fault="fell off the bus"),)))
    assert dispatch_harness.poll_gpus() == {1: Eviction("cuda:0 fell off the bus")}


def test_visible_devices_of_the_user_do_not_apply_to_gpus_of_a_pilot(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    dispatch_harness.queue("box", spec=a_spec(resources=on_gpu()), visible="7")
    dispatch_harness.decide()
    assert pilot.runs() == [1]


# --- how many pilots the work could use that waits


BOX = BackendSettings(name="box", kind="local", cpus=4, gpus=2, pilots=3, time_s=3600.0)
FARM = BackendSettings(name="farm", kind="slurm", cpus=8, pilots=2)


def lane(
    jobs: int,
    *on: str,
    group: str = "",
    limit: float | None = None,
    paths: tuple[str, ...] = (),
    **asked: object,
) -> WaitingLane:
    resources = Resources(**{"device": "cpu", **asked})  # type: ignore[arg-type]
    wanted = Lane(
        group=group,
        resources=resources,
        environment=WorkerEnvironment(),
        on=on or ("box",),
        limit=limit,
    )
    return WaitingLane(lane=wanted, jobs=jobs, paths=paths)


def pilots(*lanes: WaitingLane, **left: int) -> dict[str, int]:
    wanted = pilot_demands(lanes, {"box": BOX, "farm": FARM}, left)
    return {name: demand.pilots for name, demand in wanted.items()}


def test_demand_is_the_number_of_pilots_that_the_jobs_fill() -> None:
    assert pilots(lane(1)) == {"box": 1}
    assert pilots(lane(4)) == {"box": 1}
    assert pilots(lane(5)) == {"box": 2}
    assert pilots(lane(2, cpus=3)) == {"box": 2}


def test_demand_counts_gpus_like_cores() -> None:
    assert pilots(lane(4, device="cuda")) == {"box": 2}
    assert pilots(lane(2, device="cuda", gpus=2)) == {"box": 2}


def test_excess_demand_goes_to_the_next_backend() -> None:
    assert pilots(lane(20, "box", "farm")) == {"box": 3, "farm": 1}
    assert pilots(lane(20, "farm", "box")) == {"farm": 2, "box": 1}


def test_job_too_large_for_a_pilot_creates_no_demand() -> None:
    assert pilots(lane(3, cpus=5)) == {}
    assert pilots(lane(3, gpus=3, device="cuda")) == {}
    assert pilots(lane(3, limit=7200.0)) == {}
    assert pilots(lane(3, "box", "farm", cpus=5)) == {"farm": 2}


def test_job_of_an_unconfigured_backend_creates_no_demand() -> None:
    assert pilots(lane(3, "elsewhere")) == {}
    assert pilots(lane(3, "local")) == {}


def test_full_group_creates_no_demand() -> None:
    assert pilots(lane(9, group="few"), few=0) == {}
    assert pilots(lane(9, group="few"), lane(9, group="few", cpus=2), few=4) == {"box": 1}


def test_demand_lists_each_required_path_once() -> None:
    wanted = pilot_demands(
        [lane(1, paths=("/a", "/b")), lane(1, paths=("/a",), cpus=2)], {"box": BOX}, {}
    )
    assert wanted == {"box": Demand(jobs=2, slots=2, paths=("/a", "/b"))}


def test_paths_are_those_of_the_nodes() -> None:
    box = BOX._replace(paths={"/local": "/shared"})
    wanted = pilot_demands([lane(1, paths=("/local/lab", "/b"))], {"box": box}, {})
    assert wanted["box"].paths == ("/shared/lab", "/b")


def test_required_interpreter_is_that_of_the_nodes() -> None:
    job = lane(1)._replace(interpreter="/local/bin/python")
    shared = BOX._replace(paths={"/local": "/shared"})
    for box, paths in [
        (BOX, ("/local/bin/python",)),
        (shared, ("/shared/bin/python",)),
        (shared._replace(python="/opt/bin/python"), ("/opt/bin/python",)),
        (shared._replace(python="python3"), ()),  # found on the node by its PATH
    ]:
        assert pilot_demands([job], {"box": box}, {})["box"].paths == paths


# --- which jobs a pilot has time for: limits are kept, guesses keep no job from every pilot there could be


THEN, HOUR = 1e9, 3600.0


def a_pilot(left_h: float, whole_h: float = 10.0) -> Registered:
    until = THEN + left_h * HOUR
    return HELLO._replace(began=until - whole_h * HOUR, until=until)


def pilot_time_obstacle(
    hello: Registered, *, took_h: float | None = None, limit_h: float | None = None
) -> str:
    asked = lane(1).lane
    job = Waiting(
        job=1, resources=asked.resources, seconds=None if took_h is None else took_h * HOUR
    )
    limited = asked._replace(limit=None if limit_h is None else limit_h * HOUR)
    return pilot_obstacle(limited, job, hello, hello.until, THEN)


def test_job_expected_to_exceed_the_remaining_time_waits_for_another_pilot() -> None:
    assert pilot_time_obstacle(a_pilot(left_h=5), took_h=4) == (
        "is expected to run for up to 6 h, but this pilot ends in 5 h"
    )
    assert pilot_time_obstacle(a_pilot(left_h=7), took_h=4) == ""


@pytest.mark.parametrize("took_h", [7, 12, 1000])
def test_job_expected_to_exceed_every_pilot_starts_on_a_new_one(took_h: float) -> None:
    assert "is expected to run" in pilot_time_obstacle(a_pilot(left_h=8), took_h=took_h)
    assert pilot_time_obstacle(a_pilot(left_h=9.9), took_h=took_h) == ""


def test_time_limit_is_not_treated_as_an_estimate() -> None:
    assert "may run for 11 h" in pilot_time_obstacle(a_pilot(left_h=10), limit_h=11)


def test_estimate_applies_to_a_pilot_of_unknown_start() -> None:
    assert "is expected to run" in pilot_time_obstacle(
        a_pilot(left_h=10)._replace(began=None), took_h=9
    )


# --- single-job pilots: each gets one job, and the command to exit after it


def use_single_job_pilots(dispatch_harness: DispatchHarness) -> None:
    """Have a backend whose pilots are for one job each."""
    settings = dispatch_harness.backends.by_name["box"]._replace(pilot=False)
    dispatch_harness.backends = Backends(
        by_name={**dispatch_harness.backends.by_name, "box": settings}
    )


def test_single_job_pilot_gets_one_job_and_exits_after_it(
    dispatch_harness: DispatchHarness,
) -> None:
    use_single_job_pilots(dispatch_harness)
    pilot = dispatch_harness.pilot(single=True)
    first, _ = dispatch_harness.queue("box", jobs=2)
    dispatch_harness.decide()
    assert pilot.orders() == [StartAttempt(attempt=f"{first}-1"), Drain()]
    dispatch_harness.decide()
    assert pilot.orders() == []


def test_single_job_pilot_gets_no_second_job(dispatch_harness: DispatchHarness) -> None:
    use_single_job_pilots(dispatch_harness)
    pilot = dispatch_harness.pilot(single=True)
    first, _ = dispatch_harness.queue("box", jobs=2)
    dispatch_harness.decide()
    pilot.orders()
    dispatch_harness.end(pilot, f"{first}-1", Done(at=1.0))
    assert [job for job, _ in dispatch_harness.poll_ends()] == [first]
    dispatch_harness.decide()  # the pilot pool, which polls its pilots periodically, still lists it
    assert pilot.orders() == []


def test_each_pilot_gets_its_own_job_in_the_order_of_the_queue(
    dispatch_harness: DispatchHarness,
) -> None:
    use_single_job_pilots(dispatch_harness)
    pilots = [dispatch_harness.pilot(f"lp-{number}", single=True) for number in range(3)]
    jobs = dispatch_harness.queue("box", jobs=5)
    dispatch_harness.decide()
    runs = [pilot.orders()[0] for pilot in pilots]
    assert runs == [StartAttempt(attempt=f"{job}-1") for job in jobs[:3]]


def test_a_job_behind_one_that_does_not_fit_gets_the_pilot(
    dispatch_harness: DispatchHarness,
) -> None:
    use_single_job_pilots(dispatch_harness)
    pilot = dispatch_harness.pilot(single=True, cpus=1)
    dispatch_harness.queue("box", spec=a_spec(cpus=2))
    (second,) = dispatch_harness.queue("box", group="other")
    dispatch_harness.decide()
    assert pilot.orders() == [StartAttempt(attempt=f"{second}-1"), Drain()]


def test_started_job_requests_no_further_pilot_at_once(dispatch_harness: DispatchHarness) -> None:
    use_single_job_pilots(dispatch_harness)
    dispatch_harness.queue("box", jobs=3)
    dispatch_harness.decide()
    asked, _ = dispatch_harness.requested_pilots()
    assert asked["box"].pilots == 2  # at most, as the table says
    for number in range(3):
        dispatch_harness.pilot(f"lp-{number}", single=True)
    dispatch_harness.decide()
    asked, busy = dispatch_harness.requested_pilots()
    assert not asked
    assert sorted(busy.values()) == [1, 1, 1]


def test_demand_is_one_single_job_pilot_per_waiting_job() -> None:
    settings = BOX._replace(pilot=False, pilots=1000)
    demand = pilot_demands([lane(700), lane(500, cpus=4)], {"box": settings}, {})["box"]
    assert (demand.pilots, demand.slots) == (1000, 1)


def test_job_with_an_unresponsive_run_folder_waits_and_names_it(
    dispatch_harness: DispatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(*_: object, **__: object) -> str:
        raise FilesystemTimeout("/far/runs/first")

    (job,) = dispatch_harness.queue("local")
    (ready,) = dispatch_harness.store.ready_jobs.read_ready(9)
    start = Start(job=job, devices=(), cpus=1, reason="there is room")
    with monkeypatch.context() as patched:
        patched.setattr(attempt_specs, "make_attempt_spec", hangs)
        dispatch_harness.launches.claim(ready, start, dispatch_harness.local)
        until(dispatch_harness.pool.collect_spawned, "a supervisor is ready")
        reason = dispatch_harness.launches.claim(ready, start, dispatch_harness.local)
    assert reason is not None
    assert reason.text == "waiting for its files: the folder /far/runs/first does not respond"
    assert dispatch_harness.launches.claim(ready, start, dispatch_harness.local) is None, (
        "with the same supervisor, now that it answers"
    )
    assert [claim.job for claim in dispatch_harness.launches.open_claims()] == [job]
    dispatch_harness.launches.rollback()


def test_job_that_can_never_start_ends_when_there_is_room_for_its_folder(
    dispatch_harness: DispatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise CannotStartWorker("no such interpreter")

    def fill(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    (job,) = dispatch_harness.queue("local")
    (ready,) = dispatch_harness.store.ready_jobs.read_ready(9)
    start = Start(job=job, devices=(), cpus=1, reason="there is room")
    monkeypatch.setattr(dispatch_harness.pool, "take_supervisor", refuse)
    with monkeypatch.context() as patched:
        patched.setattr(attempt_specs, "make_attempt_spec", fill)
        reason = dispatch_harness.launches.claim(ready, start, dispatch_harness.local)
    assert reason is not None
    assert reason.text.startswith("waiting for room: ")
    assert dispatch_harness.launches.claim(ready, start, dispatch_harness.local) is None
    dispatch_harness.launches.commit()
    ((claim, why),) = dispatch_harness.launches.pop_failed_claims()
    assert (claim.job, str(why)) == (job, "no such interpreter")


def test_job_without_descriptors_for_its_supervisor_waits_for_another_end(
    dispatch_harness: DispatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch_harness.queue("local")
    (ready,) = dispatch_harness.store.ready_jobs.read_ready(9)
    startable = StartableJobs(dispatch_harness.gpus, dispatch_harness.pool)
    monkeypatch.setattr(fork_server_pool, "open_files_shortage", lambda: "48 files")
    assert dispatch_harness.pool.take_supervisor(ready.lane.environment) is None
    free, reasons = startable.without_backoff([ready], result := CycleResult())
    assert (free, [reason.text for reason in reasons.values()]) == (
        [],
        ["waiting for a worker: 48 files"],
    )
    assert result.max_sleep_s == 1.0
    monkeypatch.undo()
    dispatch_harness.pool.prepare(ready.lane.environment)
    until(dispatch_harness.pool.collect_spawned, "a supervisor is ready")
    monkeypatch.setattr(fork_server_pool, "open_files_shortage", lambda: "48 files")
    assert startable.without_backoff([ready], CycleResult()) == ([ready], {}), "one has no work"
