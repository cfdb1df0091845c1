"""Number and time of pilots, refusals of an engine, reasons of waiting jobs, and pilots for one job each."""

import itertools
import math
import re
import threading
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.queue.backends.backend_pilots import CONFIG_POLL_S
from launcher.queue.backends.pilot_messages import Drain
from launcher.queue.backends.pilot_pool import NEXT_POLLED
from launcher.queue.backends.pilot_rules import (
    DELETE_UNKNOWN_AFTER_S,
    FAILURES_BEFORE_BACKOFF,
    LONGEST_FAILURE_BACKOFF_S,
    LONGEST_REFUSAL_BACKOFF_S,
    LOST_STATES,
    MOST_ARRAY_ELEMENTS,
    SUBMISSION_SPACING_S,
    UNKNOWN_TIMEOUT_S,
    Demand,
    PilotSignals,
    PilotState,
    SubmitThrottle,
    count_excess_pilots,
    failure_backoff_s,
    pilot_state,
    poll_interval_s,
    refusal_backoff_s,
)
from launcher.queue.backends.protocol import AllocationState
from launcher.queue.backends.settings import Backends
from launcher.queue.backends.waiting_reasons import one_line
from tests.launcher.scheduler.remote.toy_cluster import World

# --- how many pilots, when, and when nothing of one lives any more


SPANS = st.floats(min_value=0, max_value=1e6)
NOW = 1e7


class Backend(NamedTuple):
    """How many pilots a backend has, and what became of those that it was sent."""

    held: int = 0
    unspoken: int = 0
    last_minute: int = 0
    newest_s: float = math.inf
    failures: int = 0
    proven: bool = False

    def pace(self, oldest_s: float = 0.0) -> SubmitThrottle:
        times = deque([NOW - oldest_s] * self.last_minute)
        return SubmitThrottle(
            failures=self.failures,
            has_recent_success=self.proven,
            last_submission_at=NOW - self.newest_s,
            submission_times=times,
        )

    def number(self, demand: Demand, most: int, per_minute: int) -> int:
        return self.pace().number_to_submit(
            demand,
            NOW,
            active=self.held,
            pending_count=self.unspoken,
            most=most,
            per_minute=per_minute,
        )


BACKENDS = st.builds(
    Backend,
    held=st.integers(0, 20),
    unspoken=st.integers(0, 20),
    last_minute=st.integers(0, 20),
    newest_s=SPANS | st.just(math.inf),
    failures=st.integers(0, 50),
    proven=st.booleans(),
)
DEMANDS = st.builds(Demand, jobs=st.integers(-5, 10_000), slots=st.integers(-2, 64))
SIGNS = st.builds(
    PilotSignals,
    allocation_state=st.sampled_from([None, *AllocationState]),
    node_answers=st.booleans(),
    unknown_s=SPANS,
    is_registered=st.booleans(),
    is_deregistered=st.booleans(),
    silent_s=SPANS | st.just(math.inf),
    heartbeat_s=st.floats(min_value=0.01, max_value=600),
    lease_s=st.none() | st.floats(min_value=0.01, max_value=600),
)


@settings(max_examples=400)
@given(DEMANDS, BACKENDS, st.integers(1, 20), st.integers(1, 20), st.floats(0, 59))
def test_limits_are_never_exceeded_and_no_limit_blocks_after_the_stated_wait(
    demand: Demand, backend: Backend, most: int, rate: int, oldest_s: float
) -> None:
    number = backend.number(demand, most, rate)
    missing = max(0, demand.pilots - backend.unspoken)
    assert 0 <= number <= missing
    if number:
        assert backend.held + number <= most
        assert backend.last_minute + number <= rate
    if backend.held or backend.failures:  # after the first pilots they come one at a time
        assert number <= (backend.newest_s >= SUBMISSION_SPACING_S)
    if number and not backend.proven:  # no more are tried than may fail
        tried = backend.failures + backend.unspoken + number
        assert tried <= FAILURES_BEFORE_BACKOFF or (number == 1 and not backend.unspoken)
    wait_s = backend.pace(oldest_s).wait_s(NOW, active=backend.held, per_minute=rate)
    assert wait_s >= 0
    assert wait_s or number or not (missing and backend.held < most and backend.proven)


@given(st.integers(1, 100), st.integers(1, 20), st.integers(1, 20), st.integers(1, 8))
def test_first_pilots_are_submitted_at_once(jobs: int, most: int, rate: int, slots: int) -> None:
    demand = Demand(jobs=jobs, slots=slots)
    needed = min(math.ceil(jobs / slots), most, rate)
    assert Backend(proven=True).number(demand, most, rate) == needed
    assert Backend().number(demand, most, rate) == min(needed, FAILURES_BEFORE_BACKOFF)


@settings(max_examples=300)
@given(SIGNS)
def test_only_the_backend_or_an_expired_lease_ends_a_pilot_and_a_sender_is_alive(
    signs: PilotSignals,
) -> None:
    life = pilot_state(signs)
    if (
        signs.is_registered
        and not signs.is_deregistered
        and signs.silent_s <= 3 * signs.heartbeat_s
    ):
        assert life is PilotState.RUNNING
    if life not in LOST_STATES:
        return
    leased = signs.lease_s is not None and signs.silent_s > signs.lease_s
    unknown = (
        signs.allocation_state is AllocationState.UNKNOWN and signs.unknown_s >= UNKNOWN_TIMEOUT_S
    )
    ended = signs.allocation_state is AllocationState.ENDED and (
        signs.node_answers or signs.is_deregistered or not signs.is_registered
    )
    assert signs.process_gone or ended or unknown or (leased and signs.is_registered)
    assert signs.allocation_state is not None or signs.lease_s is not None or signs.process_gone


@pytest.mark.parametrize(
    ("signs", "life"),
    [
        (PilotSignals(allocation_state=None), PilotState.SUBMITTED),
        (PilotSignals(allocation_state=AllocationState.WAITING), PilotState.WAITING),
        (PilotSignals(allocation_state=AllocationState.RUNNING), PilotState.STARTING),
        (PilotSignals(allocation_state=AllocationState.ENDED), PilotState.ENDED),
        (
            PilotSignals(allocation_state=AllocationState.UNKNOWN, unknown_s=29),
            PilotState.SUBMITTED,
        ),
        (PilotSignals(allocation_state=AllocationState.UNKNOWN, unknown_s=30), PilotState.MISSING),
        (
            PilotSignals(
                allocation_state=AllocationState.UNKNOWN,
                unknown_s=1e3,
                is_registered=True,
                silent_s=1e3,
                node_answers=False,
            ),
            PilotState.STRANDED,
        ),
        (
            PilotSignals(allocation_state=AllocationState.ENDED, is_registered=True, silent_s=14),
            PilotState.RUNNING,
        ),
        (
            PilotSignals(allocation_state=AllocationState.ENDED, is_registered=True, silent_s=16),
            PilotState.ENDED,
        ),
        (
            PilotSignals(
                allocation_state=AllocationState.ENDED,
                is_registered=True,
                silent_s=1,
                is_deregistered=True,
            ),
            PilotState.ENDED,
        ),
        (
            PilotSignals(
                allocation_state=AllocationState.ENDED,
                is_registered=True,
                silent_s=1e5,
                node_answers=False,
            ),
            PilotState.STRANDED,
        ),
        (
            PilotSignals(
                allocation_state=AllocationState.RUNNING, is_registered=True, silent_s=1e5
            ),
            PilotState.SILENT,
        ),
        (
            PilotSignals(
                allocation_state=AllocationState.RUNNING,
                is_registered=True,
                silent_s=60,
                lease_s=60,
            ),
            PilotState.SILENT,
        ),
        (
            PilotSignals(
                allocation_state=AllocationState.RUNNING,
                is_registered=True,
                silent_s=72,
                lease_s=60,
            ),
            PilotState.EXPIRED,
        ),
        (
            PilotSignals(
                allocation_state=AllocationState.ENDED,
                is_registered=True,
                silent_s=72,
                lease_s=60,
                node_answers=False,
            ),
            PilotState.ENDED,
        ),
        (
            PilotSignals(
                allocation_state=AllocationState.RUNNING,
                is_registered=True,
                silent_s=1,
                is_deregistered=True,
            ),
            PilotState.LEAVING,
        ),
    ],
)
def test_pilot_state_follows_from_its_signals(signs: PilotSignals, life: PilotState) -> None:
    assert pilot_state(signs) is life


@given(st.integers(0, 10_000))
def test_backoffs_grow_and_end(number: int) -> None:
    assert (
        0 <= failure_backoff_s(number) <= failure_backoff_s(number + 1) <= LONGEST_FAILURE_BACKOFF_S
    )
    assert (
        0 <= refusal_backoff_s(number) <= refusal_backoff_s(number + 1) <= LONGEST_REFUSAL_BACKOFF_S
    )
    assert 5 <= poll_interval_s(5, number) <= poll_interval_s(5, number + 1) <= 60
    assert poll_interval_s(90, number) >= 90


def test_backoffs_double_and_two_failures_cause_none() -> None:
    assert [failure_backoff_s(number) for number in range(5)] == [0, 0, 0, 60, 120]
    assert [refusal_backoff_s(number) for number in range(4)] == [0, 10, 20, 40]
    assert [poll_interval_s(5, errors) for errors in range(5)] == [5, 10, 20, 40, 60]


@given(DEMANDS, st.integers(0, 20), st.integers(0, 20))
def test_no_needed_pilot_is_ended(demand: Demand, waiting: int, starting: int) -> None:
    number = count_excess_pilots(demand, waiting_count=waiting, starting_count=starting)
    assert 0 <= number <= waiting
    if number:
        assert waiting + starting - number >= demand.pilots


def test_forgotten_pilot_is_searched_longer_than_it_is_waited_for() -> None:
    assert DELETE_UNKNOWN_AFTER_S > UNKNOWN_TIMEOUT_S


# --- what an engine refuses for good: nothing is left of it, and a change of config.toml is tried soon


@pytest.fixture
def refusing(tmp_path: Path) -> World:
    refusing = World(tmp_path, pilots=1)
    refusing.cluster.refuses, refusing.cluster.for_good = "invalid partition specified: gpus", True
    refusing.need(1)
    refusing.turn()
    return refusing


def folders(refusing: World) -> list[Path]:
    return list((refusing.home.folder / "pilots").glob("launcher-*"))


def test_refused_pilot_blocks_no_place_and_leaves_nothing(refusing: World) -> None:
    assert "a pilot could not be submitted: invalid partition specified: gpus" in refusing.reason
    assert folders(refusing) == []
    assert not refusing.fleet.all_links


def test_fixed_configuration_allows_the_next_submission_at_once(
    refusing: World,
) -> None:
    assert refusing.fleet.next_cycle_s() <= CONFIG_POLL_S
    refusing.cluster.refuses = ""
    table = refusing.backends.by_name["toy"]._replace(partition="main")
    refusing.backends = Backends(by_name={"toy": table})
    refusing.pass_time(CONFIG_POLL_S)
    assert len(refusing.cluster.submitted) == 1
    assert "could not be submitted" not in refusing.reason


# --- reasons of jobs that wait for pilots


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_queued_pilots_are_reported_with_the_backends_reason_and_estimate(world: World) -> None:
    world.submitted(2)
    world.pass_time(6)
    at = time.strftime("%H:%M", time.localtime(1.7e9))
    assert world.reason == f"2 pilots wait in toy: Resources, estimated start {at}"


@pytest.mark.parametrize("starts_at", [math.nan, math.inf, -math.inf, 1e30])
def test_invalid_estimate_is_not_shown(world: World, starts_at: float) -> None:
    world.submitted()
    for token, job in world.cluster.jobs.items():
        world.cluster.jobs[token] = job._replace(starts_at=starts_at)
    world.pass_time(10)
    assert world.reason.startswith("1 pilot waits in toy: Resources")


def test_starting_pilots_are_reported_with_their_nodes(world: World) -> None:
    first, second = world.submitted(2)
    world.cluster.run(first, node="n1")
    world.pass_time(10)
    assert "1 pilot waits in toy" in world.reason
    assert "1 pilot starts in toy on n1" in world.reason
    world.cluster.run(second, node="n2")
    world.pass_time(10)
    assert world.reason == "2 pilots start in toy on n1, n2"


@pytest.mark.parametrize(("nodes", "told"), [(3, "n0, n1, n2"), (4, "n0, n1 and 2 more")])
def test_two_of_many_nodes_are_named(nodes: int, told: str, tmp_path: Path) -> None:
    world = World(tmp_path, pilots=5)
    first = world.serves(1, busy=1)
    world.need(nodes)
    world.pass_time(60, speaking=first)
    for number, token in enumerate(world.cluster.submitted[1:]):
        world.cluster.run(token, node=f"n{number}")
    world.pass_time(10, speaking=first)
    assert world.reason == f"{nodes} pilots start in toy on {told}"


def test_one_of_many_silent_pilots_is_reported(world: World) -> None:
    world.serves(2)
    world.need(3)
    world.pass_time(300)
    assert world.reason.count("silent for 5 m") == 1


def test_busy_pilots_are_reported_with_the_limit(tmp_path: Path) -> None:
    world = World(tmp_path, pilots=1)
    (token,) = world.running(5)
    world.pass_time(10, speaking=[token])
    assert world.reason == ("the pilot of toy is busy (limit: pilots = 1 in [backends.toy])")


def test_wait_for_a_rate_limit_is_reported(world: World) -> None:
    (token,) = world.running()
    world.speak(token)
    world.turn()
    assert world.reason.startswith("the next pilot is submitted to toy in ")


def test_backend_message_cannot_control_a_terminal(world: World) -> None:
    world.cluster.refuses = "sbatch:\n\x1b[31merror\x1b[0m: " + "x" * 10_000
    world.submitted()
    assert world.reason.isprintable()
    assert len(world.reason) < 1000


def test_backend_that_never_answered_is_reported_at_once_with_its_duration(world: World) -> None:
    held = world.cluster.hangs = threading.Event()
    world.need(1)
    world.clock.now += 1
    world.fleet.run_cycle(world.demand, {})
    world.clock.now += 2
    world.fleet.run_cycle(world.demand, {})
    assert re.fullmatch(r"no response since [0-9 :-]+", world.reason)
    held.set()


def test_unreachable_backend_is_reported_once_with_its_duration(world: World) -> None:
    world.submitted()
    world.cluster.mute = "squeue failed"
    world.pass_time(10)
    assert re.match(r"no response since [0-9 :-]+ \(squeue failed\)", world.reason)
    before = world.reason
    world.pass_time(5)
    assert world.reason == before
    assert "toy" not in before.partition(";")[0]


def test_unreachable_backend_is_polled_with_growing_intervals(world: World) -> None:
    world.submitted()
    world.cluster.mute = "squeue failed"
    asked: list[float] = []
    while len(asked) < 4:
        before = world.cluster.questions
        world.pass_time(1)
        if world.cluster.questions > before:
            asked.append(world.clock.now)
    usual_s = world.backends.by_name["toy"].poll_s
    waits = [later - at for at, later in itertools.pairwise(asked)]
    assert waits == [pytest.approx(times * usual_s, abs=2) for times in (2, 4, 8)]


def test_implausible_estimate_is_not_shown(world: World) -> None:
    world.submitted()
    for days, shown in ((365, "Resources"), (12, "Resources, estimated start in 12 days")):
        at = world.wall + world.clock.now + days * 86_400
        for token, job in world.cluster.jobs.items():
            world.cluster.jobs[token] = job._replace(starts_at=at)
        world.pass_time(10)
        assert world.reason == f"1 pilot waits in toy: {shown}"


def test_multiline_message_becomes_one_line() -> None:
    assert one_line(" a\n\tb  c ") == "a b c"
    assert one_line("x" * 1000).endswith("x…")


def a_pilot_fails(world: World, log: str) -> None:
    world.cluster.logs = log
    world.submitted()
    world.cluster.run(*world.cluster.alive())
    world.cluster.end(*world.cluster.alive())
    world.pass_time(6)


def test_pilot_without_output_may_not_have_seen_its_folder(world: World) -> None:
    a_pilot_fails(world, "")
    folder = world.home.folder / "pilots"
    assert f"it printed nothing (check that the nodes see {folder})" in world.reason


def test_message_already_in_the_log_is_not_repeated(world: World) -> None:
    a_pilot_fails(world, "no module cuda\nthe pilot of toy on n1 failed")
    assert world.reason.count("the pilot of toy on n1 failed") == 1
    assert "its log ends" not in world.reason


# --- plain mode, pilot = "off": pilots for one job each, as many in the engine's queue as jobs wait


@pytest.fixture
def plain(tmp_path: Path) -> World:
    return World(tmp_path, pilot=False, pilots=100)


def serve(plain: World, token: str) -> None:
    """Have a pilot send a message and get its job and then a drain command, as dispatch does."""
    plain.cluster.run(token)
    plain.speak(token)
    plain.by_token[token].send(Drain())


def test_one_pilot_per_waiting_job_is_submitted_as_one_array(plain: World) -> None:
    plain.need(12, slots=1)
    plain.turn()
    name, _, _ = plain.cluster.submitted[0].rpartition("_")
    assert plain.cluster.submitted == [f"{name}_{number}" for number in range(12)]
    assert plain.by_token[f"{name}_7"].spec.single
    assert plain.records() == sorted(plain.cluster.submitted)


def test_single_job_gets_a_pilot_of_its_own(plain: World) -> None:
    (token,) = plain.submitted()
    assert "_" not in token


def test_array_is_one_submission_and_later_jobs_are_the_next_one(plain: World) -> None:
    plain.submitted(50)
    plain.submitted(70)
    assert len(plain.cluster.submitted) == 50
    plain.pass_time(15)
    assert len(plain.cluster.submitted) == 70
    assert len({token.rpartition("_")[0] for token in plain.cluster.submitted}) == 2


def test_array_size_and_configuration_limit_the_number_of_elements(plain: World) -> None:
    number = partial(
        SubmitThrottle.number_to_submit,
        demand=Demand(jobs=5000),
        now=60.0,
        per_minute=6,
        single=True,
    )
    assert number(SubmitThrottle(), active=0, pending_count=0, most=2000) == MOST_ARRAY_ELEMENTS
    assert (
        number(
            SubmitThrottle(last_submission_at=0.0, has_recent_success=True),
            active=1000,
            pending_count=0,
            most=1200,
        )
        == 200
    )
    plain.need(5000)
    plain.pass_time(15)
    assert len(plain.cluster.submitted) == plain.cluster.most_alive == 100


def test_no_second_array_of_a_thousand_before_a_pilot_registers() -> None:
    number = partial(
        SubmitThrottle(last_submission_at=0.0).number_to_submit,
        Demand(jobs=5000),
        60.0,
        active=1000,
        pending_count=1000,
    )
    assert number(most=5000, per_minute=6, single=True) == 0


def test_registered_pilot_without_a_job_is_not_replaced(plain: World) -> None:
    tokens = plain.running(3)
    plain.pass_time(15, speaking=tokens)
    assert plain.cluster.submitted == tokens


def test_pilot_with_its_job_gets_no_other_one(plain: World) -> None:
    first, *others = plain.submitted(3)
    serve(plain, first)
    plain.submitted(2)
    assert first not in plain.serving
    assert plain.cluster.submitted == [first, *others]


def test_record_of_a_pilot_with_a_job_survives_a_power_cut(plain: World) -> None:
    first, second = plain.submitted(2)
    serve(plain, first)
    plain.busy = {first: 1}
    plain.turn()
    durable = {
        pilot.token: pilot.durable for group in plain.fleet._groups.values() for pilot in group.all
    }
    assert durable == {first: True, second: False}


def test_only_the_next_of_hundreds_of_waiting_pilots_are_polled(plain: World) -> None:
    tokens = plain.submitted(60)
    plain.pass_time(10)
    assert plain.heard == tokens[:NEXT_POLLED]
    plain.cluster.run(tokens[50])
    plain.pass_time(10)
    heard = plain.heard
    assert heard == [*tokens[:NEXT_POLLED], tokens[50]]


def test_after_three_failing_pilots_the_others_are_cancelled(plain: World) -> None:
    plain.cluster.logs = "no module cuda/99"
    tokens = plain.submitted(20)
    plain.cluster.end(*tokens[:FAILURES_BEFORE_BACKOFF])
    plain.pass_time(20)
    assert sorted(plain.cluster.cancelled) == sorted(tokens[FAILURES_BEFORE_BACKOFF:])
    assert plain.cluster.alive() == []
    assert plain.cluster.submitted == tokens
    assert "no module cuda/99" in plain.reason
    plain.pass_time(60)  # then one is tried
    assert len(plain.cluster.submitted) == len(tokens) + 1


def test_pilots_of_cancelled_jobs_are_cancelled(plain: World) -> None:
    plain.submitted(10)
    plain.need(4)
    plain.pass_time(350)
    assert len(plain.cluster.alive()) == 4


def test_restarted_scheduler_finds_all_elements(plain: World) -> None:
    tokens = plain.submitted(10)
    plain.new_fleet()
    plain.pass_time(20)
    assert plain.cluster.submitted == tokens
    plain.cluster.run(tokens[3])
    plain.pass_time(6)
    serve(plain, tokens[3])
    plain.turn()
    stages = {token: job.stage for token, job in plain.cluster.jobs.items()}
    assert stages[tokens[3]] is AllocationState.RUNNING


def test_table_changed_to_plain_mode_applies_to_the_next_pilots(tmp_path: Path) -> None:
    plain = World(tmp_path)
    plain.submitted()
    table = plain.backends.by_name["toy"]._replace(pilot=False, pilots=20)
    plain.backends = Backends(by_name={"toy": table})
    plain.need(5)
    plain.pass_time(20)
    singles = [link.spec.single for link in plain.by_token.values()]
    assert singles == [False, True, True, True, True]


def test_restarted_scheduler_polls_all_pilots_that_may_have_a_job(
    plain: World,
) -> None:
    tokens = plain.running(60)
    for link in plain.by_token.values():  # their messages are in their files, and not read yet
        link.registration = link.heartbeat = None
    plain.new_fleet()
    assert {*plain.heard} == {*tokens}
