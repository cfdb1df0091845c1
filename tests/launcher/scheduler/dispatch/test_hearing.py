"""Attempts on pilots: from a claim to an order, taken over by the next scheduler, and ended with their pilot where it is lost."""

import json
import os
from pathlib import Path

import pytest

from launcher.queue.backends.node_paths import NodePaths
from launcher.queue.backends.pilot_link import PilotLink
from launcher.queue.backends.pilot_messages import (
    AttemptFinished,
    Draining,
    StartAttempt,
    StopAttempt,
)
from launcher.queue.backends.settings import Backends, BackendSettings
from launcher.queue.jobs.states import Done, Failed, Lost, NeverStarted, Outcome, State, Stopped
from launcher.queue.scheduler import started_attempts
from launcher.queue.scheduler.started_attempts import NO_RESULT, PendingOutcome, PilotAttempt
from launcher.queue.store.rows import PILOT_PREFIX
from launcher.queue.workers.attempt_handles import AttemptHandle
from launcher.queue.workers.attempt_journal import outcome_line, revoke_attempt
from launcher.queue.workers.attempt_spec import AttemptSpecWriter, read_attempt_spec
from launcher.queue.workers.lease import is_abandoned, longest_shutdown_s
from launcher.system import answering
from tests.build import a_claim, a_spec, job_row, until
from tests.launcher.scheduler.dispatch.conftest import NOW, DispatchHarness
from tests.launcher.scheduler.remote.toy_cluster import Pilot

SUPERVISOR = b'{"pid": 1, "start_ticks": 1, "boot": "of the node"}\n'


DONE = Done(at=NOW)


def report_end(pilot: Pilot, outcome: Outcome | None = None) -> None:
    """Let a pilot report the end of its attempt."""
    pilot.tell(AttemptFinished(attempt="1-1", outcome=outcome))


def write_start_record(pilot: Pilot, attempt: str, outcome: Outcome | None = None) -> None:
    """Leave what a supervisor on the node leaves in an attempt's folder."""
    line = b"" if outcome is None else b"\n" + outcome_line(outcome)
    pilot.folder.attempt(attempt).started.write_bytes(SUPERVISOR + line)


def reap_lost_pilot(dispatch_harness: DispatchHarness, why: str, token: str = "lp-1") -> Outcome:
    dispatch_harness.fleet.lost[token] = why
    ((_, outcome),) = dispatch_harness.pilot_events.reap_abandoned()
    assert dispatch_harness.fleet.done == [token]
    return outcome


@pytest.fixture
def pilot(dispatch_harness: DispatchHarness) -> Pilot:
    """A pilot that was sent an attempt of job 1."""
    pilot = dispatch_harness.pilot()
    dispatch_harness.queue("box")
    dispatch_harness.decide()
    assert pilot.runs() == [1]
    return pilot


def test_pilot_with_an_unresponsive_folder_is_abandoned_and_polled_again_later(
    dispatch_harness: DispatchHarness, pilot: Pilot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "TIMEOUT_S", 0.05)
    (link,) = dispatch_harness.fleet.pilots
    news, aside = pilot.folder.messages_file, pilot.folder.folder / "aside"
    report_end(pilot, DONE)
    news.rename(aside)
    os.mkfifo(news)  # who opens one waits for its writer
    assert dispatch_harness.poll_ends() == []
    hangs = f"the folder {link.root} does not respond"
    assert link.error == hangs
    assert not link.send(StopAttempt(attempt="9-1")), "nothing else is tried there"
    with news.open("wb"):
        aside.rename(news)
    until(lambda: dispatch_harness.poll_ends() == [(1, DONE)], "what it had told is heard")
    assert link.send()
    assert b"9-1" in pilot.folder.commands_file.read_bytes()


def test_end_reported_by_a_pilot_is_recorded(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    assert dispatch_harness.poll_ends() == []
    report_end(pilot, DONE)
    assert dispatch_harness.poll_ends() == [(1, DONE)]
    assert not dispatch_harness.attempts


def test_end_without_an_outcome_is_read_from_the_folder(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    report_end(pilot)
    ((_, awaited),) = dispatch_harness.poll_ends()
    assert isinstance(awaited, PendingOutcome)
    assert awaited.poll_outcome() is None
    write_start_record(pilot, "1-1", Failed(at=NOW, error="x"))
    assert awaited.poll_outcome() == Failed(at=NOW, error="x")


def test_end_without_a_visible_record_is_lost_after_a_minute(
    dispatch_harness: DispatchHarness, pilot: Pilot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(started_attempts, "RECORD_TIMEOUT_S", 0.0)
    report_end(pilot)
    folder = pilot.folder.attempt("1-1").folder
    assert dispatch_harness.poll_ends() == [(1, Lost(at=NOW, why=NO_RESULT.format(folder)))]


def test_time_of_a_node_with_a_wrong_clock_is_not_used(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    report_end(pilot, Done(at=5.0))
    assert dispatch_harness.poll_ends() == [(1, DONE)]


def test_start_failure_on_a_node_does_not_affect_this_machine(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    report_end(pilot, NeverStarted(at=NOW, why="full", blamed_on="machine"))
    assert dispatch_harness.poll_ends() == [(1, NeverStarted(at=NOW))]


def adopt_open_claims(dispatch_harness: DispatchHarness) -> list[PilotAttempt]:
    """Let another scheduler begin and take over what was claimed."""
    dispatch_harness.begin()
    dispatch_harness.fleet.pilots = [
        PilotLink(link.folder, link.spec) for link in dispatch_harness.fleet.pilots
    ]
    watches = [
        dispatch_harness.pilot_events.adopt(claim)
        for claim in dispatch_harness.store.claims.open_claims()
    ]
    for watch in watches:
        assert isinstance(watch, PilotAttempt)
        dispatch_harness.attempts.add(watch.claim, watch)
    return [watch for watch in watches if isinstance(watch, PilotAttempt)]


def test_stop_is_sent_as_a_command(dispatch_harness: DispatchHarness, pilot: Pilot) -> None:
    (watch,) = adopt_open_claims(dispatch_harness)
    watch.stop()
    assert pilot.orders() == [StopAttempt(attempt="1-1")]


def test_next_scheduler_reads_earlier_messages(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    report_end(pilot, DONE)
    assert len(adopt_open_claims(dispatch_harness)) == 1
    assert dispatch_harness.poll_ends() == [(1, DONE)]
    assert pilot.orders() == []


def test_next_scheduler_sends_unsent_claims(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    pilot.folder.commands_file.write_bytes(b"")
    adopt_open_claims(dispatch_harness)
    assert [*pilot.folder.commands_file.read_bytes().splitlines()] == [
        b'{"say":"run","attempt":"1-1"}'
    ]


def test_attempt_missing_in_the_queue_is_ended(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    dispatch_harness.fleet.pilots[0].start(["7-1", "8-1"])
    pilot.tell(AttemptFinished(attempt="8-1", outcome=DONE))
    pilot.orders()
    adopt_open_claims(dispatch_harness)
    dispatch_harness.poll_ends()
    assert pilot.orders() == [StopAttempt(attempt="7-1")]


def test_attempt_of_a_lost_pilot_keeps_its_recorded_outcome(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    write_start_record(pilot, "1-1", Done(at=NOW, result={"x": 1}))
    assert reap_lost_pilot(dispatch_harness, "node n1 is down") == Done(at=NOW, result={"x": 1})
    assert not dispatch_harness.attempts


def test_unstarted_attempt_of_a_lost_pilot_is_voided(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    assert isinstance(reap_lost_pilot(dispatch_harness, "node n1 is down"), NeverStarted)
    assert pilot.folder.attempt("1-1").started.read_bytes() == b'{"void": true}\n'


def test_started_attempt_of_a_lost_pilot_is_lost_with_its_reason(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    write_start_record(pilot, "1-1")
    why = "node n1 is down"
    assert reap_lost_pilot(dispatch_harness, why) == Lost(at=NOW, why=why)


def reap_terminating_pilot(dispatch_harness: DispatchHarness, *, ending_s: float) -> list[Outcome]:
    """Abandon the pilot, whose processes have been terminating for `ending_s`."""
    dispatch_harness.fleet.lost["lp-1"] = "allocation 12 of slurm failed"
    dispatch_harness.fleet.ending = ending_s
    return [outcome for _, outcome in dispatch_harness.pilot_events.reap_abandoned()]


def test_attempt_of_a_lost_pilot_ends_only_after_its_supervisor(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    write_start_record(pilot, "1-1")
    over_s = longest_shutdown_s(dispatch_harness.store.claims.open_claims()[0].spec.terms.grace_s)
    assert (
        reap_terminating_pilot(dispatch_harness, ending_s=0.0)
        == reap_terminating_pilot(dispatch_harness, ending_s=over_s - 1)
        == []
    )
    assert dispatch_harness.attempts
    assert dispatch_harness.fleet.done == []
    assert reap_terminating_pilot(dispatch_harness, ending_s=over_s + 1) == [
        Lost(at=NOW, why="allocation 12 of slurm failed")
    ]
    assert dispatch_harness.fleet.done == ["lp-1"]


@pytest.mark.parametrize("outcome", [DONE, Stopped(at=NOW), Failed(at=NOW, error="x")])
def test_end_recorded_by_an_orphan_is_used(
    dispatch_harness: DispatchHarness, pilot: Pilot, outcome: Outcome
) -> None:
    write_start_record(pilot, "1-1")
    assert reap_terminating_pilot(dispatch_harness, ending_s=1.0) == []
    write_start_record(pilot, "1-1", outcome)
    (ended,) = reap_terminating_pilot(dispatch_harness, ending_s=2.0)
    by = "allocation 12 of slurm failed"
    assert ended == (outcome._replace(by=by) if isinstance(outcome, Stopped) else outcome)
    assert dispatch_harness.fleet.done == ["lp-1"]


def test_message_of_a_lost_pilot_still_reports_the_end(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    write_start_record(pilot, "1-1")
    assert reap_terminating_pilot(dispatch_harness, ending_s=0.0) == []
    report_end(pilot, Lost(at=NOW, why="its supervisor was killed"))
    assert dispatch_harness.poll_ends() == [(1, Lost(at=NOW, why="its supervisor was killed"))]
    assert reap_terminating_pilot(dispatch_harness, ending_s=0.0) == []
    assert dispatch_harness.fleet.done == ["lp-1"]


def test_next_scheduler_waits_for_an_orphan_and_sends_its_pilot_nothing(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    write_start_record(pilot, "1-1")
    pilot.folder.commands_file.write_bytes(b"")
    dispatch_harness.fleet.lost["lp-1"] = "allocation 12 of slurm failed"
    dispatch_harness.fleet.ending = 0.0
    adopt_open_claims(dispatch_harness)
    assert dispatch_harness.poll_ends() == []
    assert pilot.folder.commands_file.read_bytes() == b""
    write_start_record(pilot, "1-1", DONE)
    assert reap_terminating_pilot(dispatch_harness, ending_s=1.0) == [DONE]


@pytest.mark.parametrize("cause", ["was preempted", "reached its time limit", "was cancelled"])
def test_attempt_of_an_externally_ended_pilot_is_stopped_and_requeued(
    dispatch_harness: DispatchHarness, pilot: Pilot, cause: str
) -> None:
    write_start_record(pilot, "1-1")
    why = f"allocation 12 of slurm {cause}"
    assert reap_lost_pilot(dispatch_harness, why) == Stopped(at=NOW, by=why)


def end_by_signal(
    dispatch_harness: DispatchHarness, pilot: Pilot, outcome: Outcome
) -> list[tuple[int, Outcome | AttemptHandle]]:
    """Have the engine ask the pilot to end, and the pilot end its attempt."""
    pilot.tell(Draining(why="SIGTERM: the engine is about to end it", signal="SIGTERM"))
    report_end(pilot, outcome)
    return dispatch_harness.poll_ends()


def test_attempt_that_ends_with_its_pilot_has_the_reason_of_the_backend(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    ((_, awaited),) = end_by_signal(dispatch_harness, pilot, Stopped(at=NOW, by="SIGTERM"))
    assert isinstance(awaited, PendingOutcome)
    assert awaited.poll_outcome() is None
    (link,) = dispatch_harness.fleet.pilots
    link.end_reason = "allocation 12 of slurm was cancelled"
    assert awaited.poll_outcome() == Stopped(at=NOW, by="allocation 12 of slurm was cancelled")


def test_attempt_that_ends_with_its_pilot_waits_for_a_reason_for_seconds_only(
    dispatch_harness: DispatchHarness, pilot: Pilot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(started_attempts, "END_REASON_TIMEOUT_S", 0.0)
    stopped = Stopped(at=NOW, by="allocation of box got SIGTERM")
    assert end_by_signal(dispatch_harness, pilot, Stopped(at=NOW, by="SIGTERM")) == [(1, stopped)]


def test_attempt_that_is_done_when_its_pilot_is_to_end_waits_for_no_reason(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    assert end_by_signal(dispatch_harness, pilot, DONE) == [(1, DONE)]


def test_attempt_stopped_by_its_user_waits_for_no_reason(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    dispatch_harness.fleet.pilots[0].stop("1-1")
    assert end_by_signal(dispatch_harness, pilot, Stopped(at=NOW)) == [(1, Stopped(at=NOW))]


def test_done_report_of_a_worker_counts_if_its_supervisor_is_dead(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    write_start_record(pilot, "1-1")
    result = {"schema": 1, "ok": True, "result": {"x": 2}}
    pilot.folder.attempt("1-1").result.write_text(json.dumps(result))
    assert reap_lost_pilot(dispatch_harness, "node n1 is down") == Done(at=NOW, result={"x": 2})


def test_messages_of_a_reaped_pilot_are_ignored(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    write_start_record(pilot, "1-1")
    reap_lost_pilot(dispatch_harness, "its lease is over")
    report_end(pilot, DONE)
    assert dispatch_harness.poll_ends() == []


def test_unreadable_attempt_is_probed_again(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    started = pilot.folder.attempt("1-1").started
    started.mkdir()  # simulates an unresponsive file system
    dispatch_harness.fleet.lost["lp-1"] = "node n1 is down"
    assert [*dispatch_harness.pilot_events.reap_abandoned()] == []
    assert dispatch_harness.fleet.done == []
    started.rmdir()
    assert isinstance(reap_lost_pilot(dispatch_harness, "node n1 is down"), NeverStarted)


def test_attempt_of_an_unrecorded_pilot_is_lost(dispatch_harness: DispatchHarness) -> None:
    claim = a_claim(boot=f"{PILOT_PREFIX}lp-9", claimed=1.0)
    assert claim.pilot == "lp-9"
    assert isinstance(dispatch_harness.pilot_events.adopt(claim), Lost)


def test_unrecorded_pilot_ends_its_attempts_before_they_are_lost(
    dispatch_harness: DispatchHarness, pilot: Pilot
) -> None:
    write_start_record(pilot, "1-1")
    dispatch_harness.begin()
    dispatch_harness.fleet.pilots.clear()
    dispatch_harness.fleet.ending = 0.0
    watch = dispatch_harness.pilot_events.adopt(dispatch_harness.store.claims.open_claims()[0])
    assert isinstance(watch, PendingOutcome)
    assert is_abandoned(pilot.folder.folder)
    assert watch.poll_outcome() is None
    write_start_record(pilot, "1-1", Stopped(at=NOW))
    assert watch.poll_outcome() == Stopped(at=NOW, by="the queue folder has no record of its pilot")


def test_pilot_is_reaped_only_after_its_claimed_attempts_ended(
    dispatch_harness: DispatchHarness,
) -> None:
    dispatch_harness.pilot()
    dispatch_harness.queue("box")
    dispatch_harness.decide(sends=False)
    dispatch_harness.fleet.lost["lp-1"] = "node n1 is down"
    assert [*dispatch_harness.pilot_events.reap_abandoned()] == []
    assert dispatch_harness.fleet.done == []
    for watch in dispatch_harness.launches.launch_committed():
        dispatch_harness.attempts.add(watch.claim, watch)
    assert isinstance(reap_lost_pilot(dispatch_harness, "node n1 is down"), NeverStarted)


def test_attempt_of_a_pilot_with_an_unreadable_record_may_be_alive(
    dispatch_harness: DispatchHarness,
) -> None:
    dispatch_harness.fleet.unreadable.add("lp-9")
    with pytest.raises(OSError, match=r"cannot read the record .*pilots/lp-9\.json"):
        dispatch_harness.pilot_events.adopt(a_claim(boot=f"{PILOT_PREFIX}lp-9", claimed=1.0))


# --- from a claim to an order for a pilot


def test_attempt_is_in_the_pilot_folder_and_linked_in_the_queue_folder(
    dispatch_harness: DispatchHarness,
) -> None:
    pilot = dispatch_harness.pilot()
    (job,) = dispatch_harness.queue("box", spec=a_spec("echo", "hi"))
    dispatch_harness.decide()
    here, there = dispatch_harness.home.attempt(job, 1), pilot.folder.attempt(f"{job}-1")
    assert here.folder.readlink() == there.folder
    order = read_attempt_spec(there.spec.read_bytes())
    assert (order.job, order.number, order.spec.argv) == (job, 1, ("echo", "hi"))


def test_order_contains_paths_of_the_nodes(dispatch_harness: DispatchHarness) -> None:
    box = dispatch_harness.backends.by_name["box"]._replace(paths={"/nowhere": "/there"})
    dispatch_harness.backends = Backends(by_name={"box": box})
    pilot = dispatch_harness.pilot()
    (job,) = dispatch_harness.queue("box")
    dispatch_harness.decide()
    order = json.loads(pilot.folder.attempt(f"{job}-1").spec.read_bytes())
    assert order["spec"]["root"] == "/there"


def test_log_link_in_the_run_is_created_by_the_scheduler(
    dispatch_harness: DispatchHarness, tmp_path: Path
) -> None:
    """A node may see other paths, and an attempt that was suspended there could overwrite a later link."""
    pilot, link = dispatch_harness.pilot(), tmp_path / "runs" / "a" / "train.log"
    (job,) = dispatch_harness.queue("box", spec=a_spec("echo", "hi", log_link=str(link)))
    dispatch_harness.decide()
    there = pilot.folder.attempt(f"{job}-1")
    assert read_attempt_spec(there.spec.read_bytes()).spec.log_link is None
    with there.log.open("r+") as log:
        log.write("hi\n")
    assert link.read_text() == "hi\n"


def test_rolled_back_transaction_sends_nothing_and_blocks_nothing(
    dispatch_harness: DispatchHarness,
) -> None:
    pilot = dispatch_harness.pilot()
    (job,) = dispatch_harness.queue("box")
    dispatch_harness.decide(fails=True)
    assert (pilot.orders(), dispatch_harness.store.claims.open_claims()) == ([], [])
    dispatch_harness.decide()
    assert pilot.runs() == [job]


def test_rolled_back_attempt_can_go_to_another_pilot(dispatch_harness: DispatchHarness) -> None:
    first = dispatch_harness.pilot("lp-1")
    (job,) = dispatch_harness.queue("box")
    dispatch_harness.decide(fails=True)
    dispatch_harness.fleet.lost["lp-1"] = "gone"
    other = dispatch_harness.pilot("lp-2")
    dispatch_harness.decide()
    assert (first.orders(), other.orders()) == ([], [StartAttempt(attempt=f"{job}-1")])
    assert (
        dispatch_harness.home.attempt(job, 1).folder.readlink()
        == other.folder.attempt(f"{job}-1").folder
    )


def test_prewritten_local_order_is_replaced_by_one_for_a_pilot(
    dispatch_harness: DispatchHarness,
) -> None:
    pilot = dispatch_harness.pilot()
    (job,) = dispatch_harness.queue("local", "box")
    ahead = dispatch_harness.home.attempt(job, 1)
    ahead.folder.mkdir()
    ahead.spec.write_text("{}")
    ahead.log.touch()
    dispatch_harness.decide()
    assert ahead.folder.readlink() == pilot.folder.attempt(f"{job}-1").folder


def test_non_repeatable_job_is_not_sent_over_an_unrecorded_attempt(
    dispatch_harness: DispatchHarness,
) -> None:
    pilot = dispatch_harness.pilot()
    (job,) = dispatch_harness.queue("box", rerun="never")
    before = dispatch_harness.home.attempt(job, 1)
    before.folder.mkdir()
    before.spec.write_text("{}")
    before.started.write_text('{"pid": 1, "start_ticks": 1, "boot": "another"}\n')
    dispatch_harness.decide()
    ((claim, why),) = dispatch_harness.launches.pop_failed_claims()
    assert (claim.number, why.is_certain, pilot.orders()) == (2, False, [])
    assert str(why) == f"the queue has no record of the attempt in {before.folder}"
    attempt = pilot.folder.attempt(f"{job}-2")
    assert revoke_attempt(attempt)  # whoever sends it all the same starts nothing


def test_prewritten_order_is_dropped_without_touching_the_pilot_folder(
    dispatch_harness: DispatchHarness,
) -> None:
    pilot = dispatch_harness.pilot()
    (job,) = dispatch_harness.queue("local", "box")
    ahead = AttemptSpecWriter(dispatch_harness.home)
    ahead.prepare(job, 1, "{}")
    dispatch_harness.decide()
    ahead.discard()
    assert pilot.folder.attempt(f"{job}-1").spec.exists()
    assert dispatch_harness.home.attempt(job, 1).folder.is_symlink()


def test_attempt_that_starts_locally_instead_has_a_local_folder(
    dispatch_harness: DispatchHarness,
) -> None:
    pilot = dispatch_harness.pilot()
    (job,) = dispatch_harness.queue("local", "box")
    dispatch_harness.decide(fails=True)
    AttemptSpecWriter(dispatch_harness.home).write(job, 1, "{}")
    assert not dispatch_harness.home.attempt(job, 1).folder.is_symlink()
    assert pilot.folder.attempt(f"{job}-1").spec.read_text() != "{}"


def test_full_pilot_folder_does_not_block_other_backends(dispatch_harness: DispatchHarness) -> None:
    pilot = dispatch_harness.pilot()
    (pilot.folder.attempts_folder).rmdir()
    pilot.folder.attempts_folder.touch()  # no folder can be made there, whoever asks for one
    (only,) = dispatch_harness.queue("box")
    (either,) = dispatch_harness.queue("box", "local", group="other")
    reasons = dispatch_harness.decide(here=1)
    assert dispatch_harness.launches.started_here == [either]
    assert dispatch_harness.store.claims.open_claims() == []
    assert job_row(dispatch_harness.store, only).state is State.QUEUED
    assert any("cannot create the folder of its attempt" in str(why) for why in reasons.values())
    pilot.folder.attempts_folder.unlink()
    pilot.folder.attempts_folder.mkdir()
    dispatch_harness.decide()
    assert pilot.orders()[0] == StartAttempt(attempt=f"{only}-1")


def test_start_reason_has_node_and_number_without_a_token(
    dispatch_harness: DispatchHarness,
) -> None:
    dispatch_harness.pilot("lp-1", node="n7", job="12_3")
    (job,) = dispatch_harness.queue("box")
    dispatch_harness.decide()
    why = job_row(dispatch_harness.store, job).state_reason.text
    assert "node n7, job 12_3 of box" in why
    assert "lp-1" not in why


# --- paths of this machine in an order, as the nodes of a backend see them


PATHS = NodePaths(
    BackendSettings(
        name="box",
        kind="local",
        paths={"/local": "/shared", "/local/fast": "/scratch"},
        python="/opt/node/bin/python",
    )
)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("/local", "/shared"),
        ("/local/me/lab", "/shared/me/lab"),
        ("/local/fast/x", "/scratch/x"),
        ("/localhost/x", "/localhost/x"),
        ("local/x", "local/x"),
    ],
)
def test_longest_matching_path_prefix_is_used(here: str, there: str) -> None:
    assert PATHS.path(here) == there


def test_every_path_of_a_spec_is_mapped_to_the_node() -> None:
    spec = {
        "root": "/local/lab",
        "argv": ["python", "--data=/local/fast/d", "lr=/local", "/local/a.py", "--n", "3"],
        "outputs": ["/local/lab/runs/x"],
        "settings": {"lr": 0.1, "folder": "/local/d"},
    }
    assert json.loads(PATHS.spec(json.dumps(spec))) == {
        "root": "/shared/lab",
        "argv": ["python", "--data=/scratch/d", "lr=/local", "/shared/a.py", "--n", "3"],
        "outputs": ["/shared/lab/runs/x"],
        "settings": {"lr": 0.1, "folder": "/shared/d"},
    }


def test_each_part_of_a_search_path_is_mapped_and_the_interpreter_is_that_of_the_nodes() -> None:
    context = {
        "folder": "/local/lab",
        "interpreter": "/local/venv/bin/python",
        "environment": {"PYTHONPATH": "/local/a:/usr/b:/local/fast", "NAME": "local"},
        "umask": 18,
    }
    assert json.loads(PATHS.context(json.dumps(context))) == {
        "folder": "/shared/lab",
        "interpreter": "/opt/node/bin/python",
        "environment": {"PYTHONPATH": "/shared/a:/usr/b:/scratch", "NAME": "local"},
        "umask": 18,
    }


def test_equal_paths_leave_texts_unchanged() -> None:
    same = NodePaths(BackendSettings(name="box", kind="local"))
    assert (same.spec('{"a":  1}'), same.context('{"b":  2}')) == ('{"a":  1}', '{"b":  2}')


@pytest.mark.parametrize("paths", [{}, {"/local": "/shared"}])
def test_a_node_keeps_its_own_limits_niceness_and_programs(paths: dict[str, str]) -> None:
    own = NodePaths(BackendSettings(name="box", kind="local", paths=paths))
    context = {"folder": "/x", "umask": 18, "limits": {"NOFILE": 64}, "niceness": 5}
    context["programs"] = {"python": "/x/bin/python"}  # PATH of the node counts
    assert json.loads(own.context(json.dumps(context))) == {"folder": "/x", "umask": 18}
