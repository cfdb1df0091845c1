"""Attempts on pilots are taken over by the next scheduler, and ended with their pilot where it is lost."""

import json

import pytest

from launcher.backends.channel import Ended, Leaving, Stop
from launcher.backends.pilot import PilotLink
from launcher.scheduler import attempt_watch
from launcher.scheduler.attempt_watch import UNTOLD, Awaited, OnPilot
from launcher.states import Done, Failed, Lost, Outcome, Stopped, Void
from launcher.store.rows import PILOT
from launcher.workers.attempt_watch import Watch
from launcher.workers.lease import ended_after_s, is_buried
from launcher.workers.started_file import outcome_line
from tests.build import a_claim
from tests.launcher.scheduler.dispatch.conftest import NOW, Office
from tests.launcher.scheduler.remote.toy_cluster import Pilot

SUPERVISOR = b'{"pid": 1, "start_ticks": 1, "boot": "of the node"}\n'


DONE = Done(at=NOW)


def ends(pilot: Pilot, outcome: Outcome | None = None) -> None:
    """Have a pilot tell of the end of its attempt."""
    pilot.tell(Ended(attempt="1-1", outcome=outcome))


def begun(pilot: Pilot, attempt: str, outcome: Outcome | None = None) -> None:
    """Leave what a supervisor on the node leaves in an attempt's folder."""
    line = b"" if outcome is None else b"\n" + outcome_line(outcome)
    pilot.folder.attempt(attempt).started.write_bytes(SUPERVISOR + line)


def buried(office: Office, why: str, token: str = "lp-1") -> Outcome:
    office.fleet.lost[token] = why
    ((_, outcome),) = office.dispatch.hearing.bury()
    assert office.fleet.done == [token]
    return outcome


@pytest.fixture
def pilot(office: Office) -> Pilot:
    """A pilot that was sent an attempt of job 1."""
    pilot = office.pilot()
    office.queue("box")
    office.decide()
    assert pilot.runs() == [1]
    return pilot


def test_end_that_a_pilot_tells_is_the_end(office: Office, pilot: Pilot) -> None:
    assert office.news() == []
    ends(pilot, DONE)
    assert office.news() == [(1, DONE)]
    assert not office.attempts


def test_end_without_words_is_read_from_the_folder_and_waited_for(
    office: Office, pilot: Pilot
) -> None:
    ends(pilot)
    ((_, awaited),) = office.news()
    assert isinstance(awaited, Awaited)
    assert awaited.ending() is None
    begun(pilot, "1-1", Failed(at=NOW, error="x"))
    assert awaited.ending() == Failed(at=NOW, error="x")


def test_end_that_is_never_seen_is_lost_after_a_minute(
    office: Office, pilot: Pilot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_watch, "PATIENCE_S", 0.0)
    ends(pilot)
    folder = pilot.folder.attempt("1-1").folder
    assert office.news() == [(1, Lost(at=NOW, why=UNTOLD.format(folder)))]


def test_time_of_a_node_whose_clock_is_wrong_is_not_taken_over(
    office: Office, pilot: Pilot
) -> None:
    ends(pilot, Done(at=5.0))
    assert office.news() == [(1, DONE)]


def test_node_that_cannot_start_programs_says_nothing_of_this_machine(
    office: Office, pilot: Pilot
) -> None:
    ends(pilot, Void(at=NOW, why="full", whose="machine"))
    assert office.news() == [(1, Void(at=NOW))]


def adopted(office: Office) -> list[OnPilot]:
    """Let another scheduler begin and take over what was claimed."""
    office.begin()
    office.fleet.pilots = [PilotLink(link.folder, link.spec) for link in office.fleet.pilots]
    watches = [office.dispatch.hearing.adopt(claim) for claim in office.store.scheduling.claims()]
    for watch in watches:
        assert isinstance(watch, OnPilot)
        office.attempts.add(watch.claim, watch)
    return [watch for watch in watches if isinstance(watch, OnPilot)]


def test_stop_is_an_order(office: Office, pilot: Pilot) -> None:
    (watch,) = adopted(office)
    watch.stop()
    assert pilot.orders() == [Stop(attempt="1-1")]


def test_next_scheduler_finds_what_was_said_before_it_began(office: Office, pilot: Pilot) -> None:
    ends(pilot, DONE)
    assert len(adopted(office)) == 1
    assert office.news() == [(1, DONE)]
    assert pilot.orders() == []


def test_next_scheduler_sends_what_was_claimed_and_not_sent(office: Office, pilot: Pilot) -> None:
    pilot.folder.orders.write_bytes(b"")
    adopted(office)
    assert [*pilot.folder.orders.read_bytes().splitlines()] == [b'{"say":"run","attempt":"1-1"}']


def test_attempt_that_the_queue_does_not_know_any_more_is_ended(
    office: Office, pilot: Pilot
) -> None:
    office.fleet.pilots[0].start(["7-1", "8-1"])
    pilot.tell(Ended(attempt="8-1", outcome=DONE))
    pilot.orders()
    adopted(office)
    office.news()
    assert pilot.orders() == [Stop(attempt="7-1")]


def test_attempt_of_a_lost_pilot_that_has_an_outcome_on_record_keeps_it(
    office: Office, pilot: Pilot
) -> None:
    begun(pilot, "1-1", Done(at=NOW, result={"x": 1}))
    assert buried(office, "node n1 is down") == Done(at=NOW, result={"x": 1})
    assert not office.attempts


def test_attempt_of_a_lost_pilot_that_never_began_cannot_begin_any_more(
    office: Office, pilot: Pilot
) -> None:
    assert isinstance(buried(office, "node n1 is down"), Void)
    assert pilot.folder.attempt("1-1").started.read_bytes() == b'{"void": true}\n'


def test_attempt_that_a_lost_pilot_had_begun_is_lost_with_its_reason(
    office: Office, pilot: Pilot
) -> None:
    begun(pilot, "1-1")
    why = "node n1 is down"
    assert buried(office, why) == Lost(at=NOW, why=why)


def bury(office: Office, *, ending_s: float) -> list[Outcome]:
    """Give the pilot up, all of which has been ending for so long."""
    office.fleet.lost["lp-1"] = "allocation 12 of slurm failed"
    office.fleet.ending = ending_s
    return [outcome for _, outcome in office.dispatch.hearing.bury()]


def test_attempt_of_a_lost_pilot_is_not_over_before_its_supervisor_has_ended_it(
    office: Office, pilot: Pilot
) -> None:
    begun(pilot, "1-1")
    over_s = ended_after_s(office.store.scheduling.claims()[0].spec.terms.grace_s)
    assert bury(office, ending_s=0.0) == bury(office, ending_s=over_s - 1) == []
    assert office.attempts
    assert office.fleet.done == []
    assert bury(office, ending_s=over_s + 1) == [Lost(at=NOW, why="allocation 12 of slurm failed")]
    assert office.fleet.done == ["lp-1"]


@pytest.mark.parametrize("outcome", [DONE, Stopped(at=NOW), Failed(at=NOW, error="x")])
def test_end_that_an_orphan_records_meanwhile_is_its_end(
    office: Office, pilot: Pilot, outcome: Outcome
) -> None:
    begun(pilot, "1-1")
    assert bury(office, ending_s=1.0) == []
    begun(pilot, "1-1", outcome)
    (ended,) = bury(office, ending_s=2.0)
    by = "allocation 12 of slurm failed"
    assert ended == (outcome._replace(by=by) if isinstance(outcome, Stopped) else outcome)
    assert office.fleet.done == ["lp-1"]


def test_lost_pilot_that_still_speaks_tells_the_end(office: Office, pilot: Pilot) -> None:
    begun(pilot, "1-1")
    assert bury(office, ending_s=0.0) == []
    ends(pilot, Lost(at=NOW, why="its supervisor was killed"))
    assert office.news() == [(1, Lost(at=NOW, why="its supervisor was killed"))]
    assert bury(office, ending_s=0.0) == []
    assert office.fleet.done == ["lp-1"]


def test_next_scheduler_waits_for_the_end_of_an_orphan_and_sends_its_pilot_nothing(
    office: Office, pilot: Pilot
) -> None:
    begun(pilot, "1-1")
    pilot.folder.orders.write_bytes(b"")
    office.fleet.lost["lp-1"] = "allocation 12 of slurm failed"
    office.fleet.ending = 0.0
    adopted(office)
    assert office.news() == []
    assert pilot.folder.orders.read_bytes() == b""
    begun(pilot, "1-1", DONE)
    assert bury(office, ending_s=1.0) == [DONE]


@pytest.mark.parametrize("cause", ["was preempted", "reached its time limit", "was cancelled"])
def test_attempt_whose_pilot_was_ended_from_outside_was_stopped_and_goes_on_elsewhere(
    office: Office, pilot: Pilot, cause: str
) -> None:
    begun(pilot, "1-1")
    why = f"allocation 12 of slurm {cause}"
    assert buried(office, why) == Stopped(at=NOW, by=why)


def signalled(office: Office, pilot: Pilot, outcome: Outcome) -> list[tuple[int, Outcome | Watch]]:
    """Have the engine ask the pilot to end, and the pilot end its attempt."""
    pilot.tell(Leaving(why="SIGTERM: the engine is about to end it", signal="SIGTERM"))
    ends(pilot, outcome)
    return office.news()


def test_attempt_that_ends_with_its_pilot_has_the_reason_that_the_engine_gives(
    office: Office, pilot: Pilot
) -> None:
    ((_, awaited),) = signalled(office, pilot, Stopped(at=NOW, by="SIGTERM"))
    assert isinstance(awaited, Awaited)
    assert awaited.ending() is None
    (link,) = office.fleet.pilots
    link.end = "allocation 12 of slurm was cancelled"
    assert awaited.ending() == Stopped(at=NOW, by="allocation 12 of slurm was cancelled")


def test_attempt_that_ends_with_its_pilot_waits_for_a_reason_for_seconds_only(
    office: Office, pilot: Pilot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_watch, "WORD_S", 0.0)
    stopped = Stopped(at=NOW, by="allocation of box got SIGTERM")
    assert signalled(office, pilot, Stopped(at=NOW, by="SIGTERM")) == [(1, stopped)]


def test_attempt_that_is_done_when_its_pilot_is_to_end_waits_for_no_reason(
    office: Office, pilot: Pilot
) -> None:
    assert signalled(office, pilot, DONE) == [(1, DONE)]


def test_attempt_that_its_owner_stops_waits_for_no_reason(office: Office, pilot: Pilot) -> None:
    office.fleet.pilots[0].stop("1-1")
    assert signalled(office, pilot, Stopped(at=NOW)) == [(1, Stopped(at=NOW))]


def test_workers_own_word_that_it_was_done_counts_where_its_supervisor_is_dead(
    office: Office, pilot: Pilot
) -> None:
    begun(pilot, "1-1")
    result = {"schema": 1, "ok": True, "result": {"x": 2}}
    pilot.folder.attempt("1-1").result.write_text(json.dumps(result))
    assert buried(office, "node n1 is down") == Done(at=NOW, result={"x": 2})


def test_zombie_of_a_buried_pilot_is_not_heard_any_more(office: Office, pilot: Pilot) -> None:
    begun(pilot, "1-1")
    buried(office, "its lease is over")
    ends(pilot, DONE)
    assert office.news() == []


def test_attempt_that_cannot_be_looked_at_now_is_looked_at_again(
    office: Office, pilot: Pilot
) -> None:
    started = pilot.folder.attempt("1-1").started
    started.mkdir()  # stands for a file system that does not answer
    office.fleet.lost["lp-1"] = "node n1 is down"
    assert [*office.dispatch.hearing.bury()] == []
    assert office.fleet.done == []
    started.rmdir()
    assert isinstance(buried(office, "node n1 is down"), Void)


def test_attempt_whose_pilot_the_home_has_no_record_of_is_lost(office: Office) -> None:
    claim = a_claim(boot=f"{PILOT}lp-9", claimed=1.0)
    assert claim.pilot == "lp-9"
    assert isinstance(office.dispatch.hearing.adopt(claim), Lost)


def test_pilot_that_the_home_has_no_record_of_ends_what_runs_before_that_is_lost(
    office: Office, pilot: Pilot
) -> None:
    begun(pilot, "1-1")
    office.begin()
    office.fleet.pilots.clear()
    office.fleet.ending = 0.0
    watch = office.dispatch.hearing.adopt(office.store.scheduling.claims()[0])
    assert isinstance(watch, Awaited)
    assert is_buried(pilot.folder.folder)
    assert watch.ending() is None
    begun(pilot, "1-1", Stopped(at=NOW))
    assert watch.ending() == Stopped(at=NOW, by="the home has no record of its pilot")


def test_pilot_is_not_buried_before_what_is_claimed_there_was_ended(office: Office) -> None:
    office.pilot()
    office.queue("box")
    office.decide(sends=False)
    office.fleet.lost["lp-1"] = "node n1 is down"
    assert [*office.dispatch.hearing.bury()] == []
    assert office.fleet.done == []
    for watch in office.launches.go():
        office.attempts.add(watch.claim, watch)
    assert isinstance(buried(office, "node n1 is down"), Void)


def test_attempt_whose_pilots_record_cannot_be_read_may_live(office: Office) -> None:
    office.fleet.unreadable.add("lp-9")
    with pytest.raises(OSError, match=r"pilots/lp-9\.json cannot be read"):
        office.dispatch.hearing.adopt(a_claim(boot=f"{PILOT}lp-9", claimed=1.0))
