"""How many pilots, when; what an engine refuses; what waiting jobs are told; and pilots for one job each."""

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

from launcher.backends.backend_pilots import CONFIG_POLL_S
from launcher.backends.fleet import NEXT_POLLED
from launcher.backends.pilot_messages import Drain
from launcher.backends.pilot_rules import (
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
from launcher.backends.protocol import AllocationState
from launcher.backends.settings import Backends
from launcher.backends.waiting_reasons import one_line
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
            pending=self.unspoken,
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
def test_no_limit_is_ever_passed_and_who_waits_as_it_is_said_meets_none_of_time(
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
def test_the_first_ones_come_at_once(jobs: int, most: int, rate: int, slots: int) -> None:
    demand = Demand(jobs=jobs, slots=slots)
    needed = min(math.ceil(jobs / slots), most, rate)
    assert Backend(proven=True).number(demand, most, rate) == needed
    assert Backend().number(demand, most, rate) == min(needed, FAILURES_BEFORE_BACKOFF)


@settings(max_examples=300)
@given(SIGNS)
def test_only_an_engines_word_or_the_end_of_a_lease_is_an_end_and_who_speaks_is_alive(
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
def test_what_is_made_of_a_pilot(signs: PilotSignals, life: PilotState) -> None:
    assert pilot_state(signs) is life


@given(st.integers(0, 10_000))
def test_pauses_grow_and_end(number: int) -> None:
    assert (
        0 <= failure_backoff_s(number) <= failure_backoff_s(number + 1) <= LONGEST_FAILURE_BACKOFF_S
    )
    assert (
        0 <= refusal_backoff_s(number) <= refusal_backoff_s(number + 1) <= LONGEST_REFUSAL_BACKOFF_S
    )
    assert 5 <= poll_interval_s(5, number) <= poll_interval_s(5, number + 1) <= 60
    assert poll_interval_s(90, number) >= 90


def test_pauses_double_and_of_failures_two_make_none() -> None:
    assert [failure_backoff_s(number) for number in range(5)] == [0, 0, 0, 60, 120]
    assert [refusal_backoff_s(number) for number in range(4)] == [0, 10, 20, 40]
    assert [poll_interval_s(5, errors) for errors in range(5)] == [5, 10, 20, 40, 60]


@given(DEMANDS, st.integers(0, 20), st.integers(0, 20))
def test_no_pilot_is_ended_that_work_waits_for(demand: Demand, waiting: int, starting: int) -> None:
    number = count_excess_pilots(demand, waiting=waiting, starting=starting)
    assert 0 <= number <= waiting
    if number:
        assert waiting + starting - number >= demand.pilots


def test_who_is_forgotten_is_looked_for_longer_than_it_is_waited_for() -> None:
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


def test_a_refused_pilot_keeps_nobodys_place_and_leaves_nothing(refusing: World) -> None:
    assert "a pilot could not be submitted: invalid partition specified: gpus" in refusing.reason
    assert folders(refusing) == []
    assert not refusing.fleet.all_links


def test_after_the_configuration_was_mended_the_next_one_is_submitted_at_once(
    refusing: World,
) -> None:
    assert refusing.fleet.next_cycle_s() <= CONFIG_POLL_S
    refusing.cluster.refuses = ""
    table = refusing.backends.by_name["toy"]._replace(partition="main")
    refusing.backends = Backends(by_name={"toy": table})
    refusing.pass_time(CONFIG_POLL_S)
    assert len(refusing.cluster.submitted) == 1
    assert "could not be submitted" not in refusing.reason


# --- what jobs that wait for pilots are told


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_pilots_in_the_queue_are_told_with_the_engines_reason_and_estimate(world: World) -> None:
    world.submitted(2)
    world.pass_time(6)
    at = time.strftime("%H:%M", time.localtime(1.7e9))
    assert world.reason == f"2 pilots wait in toy: Resources, estimated start {at}"


@pytest.mark.parametrize("starts_at", [math.nan, math.inf, -math.inf, 1e30])
def test_an_estimate_that_is_no_time_is_not_shown_as_one(world: World, starts_at: float) -> None:
    world.submitted()
    for token, job in world.cluster.jobs.items():
        world.cluster.jobs[token] = job._replace(starts_at=starts_at)
    world.pass_time(10)
    assert world.reason.startswith("1 pilot waits in toy: Resources")


def test_pilots_that_start_are_told_with_their_nodes(world: World) -> None:
    first, second = world.submitted(2)
    world.cluster.run(first, node="n1")
    world.pass_time(10)
    assert "1 pilot waits in toy" in world.reason
    assert "1 pilot starts in toy on n1" in world.reason
    world.cluster.run(second, node="n2")
    world.pass_time(10)
    assert world.reason == "2 pilots start in toy on n1, n2"


@pytest.mark.parametrize(("nodes", "told"), [(3, "n0, n1, n2"), (4, "n0, n1 and 2 more")])
def test_of_many_nodes_two_are_named(nodes: int, told: str, tmp_path: Path) -> None:
    world = World(tmp_path, pilots=5)
    first = world.serves(1, busy=1)
    world.need(nodes)
    world.pass_time(60, speaking=first)
    for number, token in enumerate(world.cluster.submitted[1:]):
        world.cluster.run(token, node=f"n{number}")
    world.pass_time(10, speaking=first)
    assert world.reason == f"{nodes} pilots start in toy on {told}"


def test_of_pilots_that_are_silent_one_is_told(world: World) -> None:
    world.serves(2)
    world.need(3)
    world.pass_time(300)
    assert world.reason.count("silent for 5 m") == 1


def test_busy_pilots_are_told_with_the_limit(tmp_path: Path) -> None:
    world = World(tmp_path, pilots=1)
    (token,) = world.running(5)
    world.pass_time(10, speaking=[token])
    assert world.reason == ("the pilot of toy is busy (limit: pilots = 1 in [backends.toy])")


def test_a_wait_for_a_limit_of_time_is_told(world: World) -> None:
    (token,) = world.running()
    world.speak(token)
    world.turn()
    assert world.reason.startswith("the next pilot is submitted to toy in ")


def test_what_an_engine_says_cannot_steer_a_terminal(world: World) -> None:
    world.cluster.refuses = "sbatch:\n\x1b[31merror\x1b[0m: " + "x" * 10_000
    world.submitted()
    assert world.reason.isprintable()
    assert len(world.reason) < 1000


def test_an_engine_that_never_answered_is_told_at_once_with_since_when(world: World) -> None:
    held = world.cluster.hangs = threading.Event()
    world.need(1)
    world.clock.now += 1
    world.fleet.run_cycle(world.demand, {})
    world.clock.now += 2
    world.fleet.run_cycle(world.demand, {})
    assert re.fullmatch(r"no response since [0-9 :-]+", world.reason)
    held.set()


def test_an_engine_that_does_not_answer_is_named_once_with_since_when(world: World) -> None:
    world.submitted()
    world.cluster.mute = "squeue failed"
    world.pass_time(10)
    assert re.match(r"no response since [0-9 :-]+ \(squeue failed\)", world.reason)
    before = world.reason
    world.pass_time(5)
    assert world.reason == before
    assert "toy" not in before.partition(";")[0]


def test_an_engine_that_does_not_answer_is_asked_more_and_more_rarely(world: World) -> None:
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


def test_an_estimate_that_is_beyond_sense_is_not_shown(world: World) -> None:
    world.submitted()
    for days, shown in ((365, "Resources"), (12, "Resources, estimated start in 12 days")):
        at = world.wall + world.clock.now + days * 86_400
        for token, job in world.cluster.jobs.items():
            world.cluster.jobs[token] = job._replace(starts_at=at)
        world.pass_time(10)
        assert world.reason == f"1 pilot waits in toy: {shown}"


def test_what_is_said_over_lines_becomes_a_line() -> None:
    assert one_line(" a\n\tb  c ") == "a b c"
    assert one_line("x" * 1000).endswith("x…")


def a_pilot_fails(world: World, log: str) -> None:
    world.cluster.logs = log
    world.submitted()
    world.cluster.run(*world.cluster.alive())
    world.cluster.end(*world.cluster.alive())
    world.pass_time(6)


def test_a_pilot_that_printed_nothing_may_not_have_seen_its_folder(world: World) -> None:
    a_pilot_fails(world, "")
    folder = world.home.folder / "pilots"
    assert f"it printed nothing (check that the nodes see {folder})" in world.reason


def test_what_the_log_says_already_is_not_said_twice(world: World) -> None:
    a_pilot_fails(world, "no module cuda\nthe pilot of toy on n1 failed")
    assert world.reason.count("the pilot of toy on n1 failed") == 1
    assert "its log ends" not in world.reason


# --- plain mode, pilot = "off": pilots for one job each, as many in the engine's queue as jobs wait


@pytest.fixture
def plain(tmp_path: Path) -> World:
    return World(tmp_path, pilot=False, pilots=100)


def serve(plain: World, token: str) -> None:
    """Have a pilot speak, get its job, and be sent away behind it, as dispatch does."""
    plain.cluster.run(token)
    plain.speak(token)
    plain.by_token[token].send(Drain())


def test_as_many_pilots_wait_as_jobs_do_and_they_are_elements_of_one_array(plain: World) -> None:
    plain.need(12, slots=1)
    plain.turn()
    name, _, _ = plain.cluster.submitted[0].rpartition("_")
    assert plain.cluster.submitted == [f"{name}_{number}" for number in range(12)]
    assert plain.by_token[f"{name}_7"].spec.single
    assert plain.records() == sorted(plain.cluster.submitted)


def test_one_job_alone_gets_a_pilot_of_its_own(plain: World) -> None:
    (token,) = plain.submitted()
    assert "_" not in token


def test_an_array_is_one_submission_and_jobs_that_come_later_are_the_next_one(plain: World) -> None:
    plain.submitted(50)
    plain.submitted(70)
    assert len(plain.cluster.submitted) == 50
    plain.pass_time(15)
    assert len(plain.cluster.submitted) == 70
    assert len({token.rpartition("_")[0] for token in plain.cluster.submitted}) == 2


def test_never_more_elements_than_an_array_or_the_configuration_allows(plain: World) -> None:
    number = partial(
        SubmitThrottle.number_to_submit,
        demand=Demand(jobs=5000),
        now=60.0,
        per_minute=6,
        single=True,
    )
    assert number(SubmitThrottle(), active=0, pending=0, most=2000) == MOST_ARRAY_ELEMENTS
    assert (
        number(
            SubmitThrottle(last_submission_at=0.0, has_recent_success=True),
            active=1000,
            pending=0,
            most=1200,
        )
        == 200
    )
    plain.need(5000)
    plain.pass_time(15)
    assert len(plain.cluster.submitted) == plain.cluster.most_alive == 100


def test_until_one_has_spoken_there_is_no_second_array_of_a_thousand() -> None:
    number = partial(
        SubmitThrottle(last_submission_at=0.0).number_to_submit,
        Demand(jobs=5000),
        60.0,
        active=1000,
        pending=1000,
    )
    assert number(most=5000, per_minute=6, single=True) == 0


def test_a_pilot_that_has_spoken_and_has_no_job_yet_is_not_replaced(plain: World) -> None:
    tokens = plain.running(3)
    plain.pass_time(15, speaking=tokens)
    assert plain.cluster.submitted == tokens


def test_a_pilot_that_has_its_job_gets_no_other_one(plain: World) -> None:
    first, *others = plain.submitted(3)
    serve(plain, first)
    plain.submitted(2)
    assert first not in plain.serving
    assert plain.cluster.submitted == [first, *others]


def test_the_record_of_a_pilot_with_a_job_survives_a_power_cut(plain: World) -> None:
    first, second = plain.submitted(2)
    serve(plain, first)
    plain.busy = {first: 1}
    plain.turn()
    durable = {
        pilot.token: pilot.durable for group in plain.fleet._groups.values() for pilot in group.all
    }
    assert durable == {first: True, second: False}


def test_of_hundreds_that_wait_only_the_next_ones_are_listened_to(plain: World) -> None:
    tokens = plain.submitted(60)
    plain.pass_time(10)
    assert plain.heard == tokens[:NEXT_POLLED]
    plain.cluster.run(tokens[50])
    plain.pass_time(10)
    heard = plain.heard
    assert heard == [*tokens[:NEXT_POLLED], tokens[50]]


def test_after_three_that_could_not_work_the_others_are_taken_back(plain: World) -> None:
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


def test_pilots_whose_jobs_were_cancelled_are_taken_back(plain: World) -> None:
    plain.submitted(10)
    plain.need(4)
    plain.pass_time(350)
    assert len(plain.cluster.alive()) == 4


def test_a_scheduler_that_begins_anew_finds_all_elements(plain: World) -> None:
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


def test_a_table_that_is_changed_to_plain_mode_holds_for_the_next_pilots(tmp_path: Path) -> None:
    plain = World(tmp_path)
    plain.submitted()
    table = plain.backends.by_name["toy"]._replace(pilot=False, pilots=20)
    plain.backends = Backends(by_name={"toy": table})
    plain.need(5)
    plain.pass_time(20)
    singles = [link.spec.single for link in plain.by_token.values()]
    assert singles == [False, True, True, True, True]


def test_a_scheduler_that_begins_anew_listens_to_all_pilots_that_may_have_a_job(
    plain: World,
) -> None:
    tokens = plain.running(60)
    for link in plain.by_token.values():  # what they say lies in their files, and is not read yet
        link.registration = link.heartbeat = None
    plain.new_fleet()
    assert {*plain.heard} == {*tokens}
