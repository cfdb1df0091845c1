"""Which jobs go to which pilots and their GPUs, why others wait, and how the user's file is read again."""

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.backends.channel import Beat, Run
from launcher.backends.settings import Backends, configured_backends
from launcher.errors import UsageError
from launcher.job import Resources
from launcher.scheduler.placement import CHOSEN_S, KeptPlaces
from launcher.scheduler.policy.disciplines import EASY
from launcher.scheduler.policy.model import Wait
from launcher.scheduler.turn import Requests, TurnResult
from launcher.states import Done, ReasonCode
from launcher.system.config import Followed
from launcher.workers.memory_share import CONTEXT, Share, read_share
from tests.build import GIB, a_gpu, a_spec
from tests.launcher.scheduler.dispatch.conftest import NOW, Office
from tests.launcher.scheduler.remote.toy_cluster import Pilot, ToyClock, World

# --- which jobs go to which pilots, and why others wait


def test_jobs_start_on_a_pilot_while_it_has_cores_and_the_rest_is_told_why_it_waits(
    office: Office,
) -> None:
    pilot = office.pilot()
    first, second, _ = office.queue("box", jobs=3)
    assert office.told() == "box: needs 1 core, 0 of 2 free"
    assert pilot.runs() == [first, second]
    assert [claim.pilot for claim in office.store.scheduling.claims()] == ["lp-1", "lp-1"]
    assert office.told() == "box: all 2 cores of its pilot are busy"


def test_second_pilot_gets_what_the_first_one_cannot_take(office: Office) -> None:
    pilots = [office.pilot("lp-1"), office.pilot("lp-2")]
    office.queue("box", jobs=3)
    assert [*office.decide().values()] == [None]
    assert [len(pilot.orders()) for pilot in pilots] == [2, 1]


def test_job_runs_only_where_it_may(office: Office) -> None:
    office.pilot(backend="farm")
    office.queue("box")
    assert office.told(here=9) == "box: its first pilot is about to be submitted"
    assert not office.started_here


def test_backend_says_why_it_has_no_pilot(office: Office) -> None:
    office.fleet.why["box"] = "2 pilots wait in box: Resources"
    office.queue("box")
    (reason,) = office.decide().values()
    assert reason is not None
    assert (reason.text, reason.code) == ("box: 2 pilots wait in box: Resources", "no-pilot")


def test_place_that_is_named_first_is_asked_first(office: Office) -> None:
    pilot = office.pilot()
    (first,) = office.queue("local", "box")
    office.decide(here=1)
    assert (office.started_here, pilot.orders()) == ([first], [])


def test_what_finds_no_room_in_the_first_place_starts_in_the_next_one(office: Office) -> None:
    pilot = office.pilot()
    first, second = office.queue("local", "box", jobs=2)
    office.decide(here=1)
    assert office.started_here == [first]
    assert pilot.runs() == [second]


def test_job_that_may_run_in_two_places_is_told_of_both(office: Office) -> None:
    office.queue("box", "farm", spec=a_spec(cpus=3))
    assert office.told() == (
        "box: needs 3 cores, and a pilot of box has 2; raise `cpus` in [backends.box]; "
        "farm: its first pilot is about to be submitted"
    )


def test_backend_that_was_taken_out_of_the_configuration_is_named(office: Office) -> None:
    office.queue("gone")
    assert office.told() == (
        "gone: config.toml has no table [backends.gone] any more; add it, or cancel the job"
    )


def test_job_with_a_limit_that_ends_after_its_pilot_is_not_sent_there(office: Office) -> None:
    office.pilot(until=1000.0 + 60.0)
    office.queue("box", time_limit_s=61.0)
    assert office.told() == "box: may run for 1 m 1 s, and this pilot ends in 1 m"
    (job,) = office.queue("box", time_limit_s=60.0, retries=1)
    office.decide()
    assert [claim.job for claim in office.store.scheduling.claims()] == [job]


def test_job_gets_the_cores_that_it_asks_for_or_waits(office: Office) -> None:
    office.pilot(cpus=1)
    office.queue("box", spec=a_spec(cpus=2))
    assert office.told() == "box: needs 2 cores, and this pilot has 1"


def test_pilot_with_troubles_gets_nothing(office: Office) -> None:
    pilot = office.pilot(troubles=("/data is not seen",))
    office.queue("box")
    office.decide()
    assert pilot.orders() == []


def test_limit_of_a_group_holds_over_all_machines(office: Office) -> None:
    office.limits["few"] = 1
    pilots = [office.pilot("lp-1"), office.pilot("lp-2")]
    office.queue("box", jobs=3, group="few")
    assert office.told() == "box: group 'few' runs 1 of at most 1"
    assert office.told() == "box: group 'few' runs 1 of at most 1"
    assert [len(pilot.orders()) for pilot in pilots] == [1, 0]


def test_fleet_learns_how_much_work_waits_and_where_attempts_are(office: Office) -> None:
    office.pilot()
    office.queue("box", jobs=5)
    office.decide()
    demand, busy = office.ordered()
    assert (demand["box"].jobs, demand["box"].pilots) == (3, 2)
    assert demand["box"].paths == ("/",)  # the folder of a program
    assert busy == {"lp-1": 2}


@pytest.mark.parametrize(
    ("cwd", "paths"), [("", {"/", "/nowhere"}), ("/data", {"/data", "/nowhere"}), ("{job_folder}", {"/nowhere"})]
)  # fmt: skip
def test_a_node_must_see_the_project_of_a_program_with_a_folder_of_its_own(
    office: Office, cwd: str, paths: set[str]
) -> None:
    settings = {"cwd": cwd, "env": {"OUT": "{job_folder}"}}
    office.queue("box", spec=a_spec(settings=settings))
    office.decide()
    office.ordered()
    assert {*office.fleet.turns[-1][0]["box"].paths} == paths


def test_nothing_is_asked_of_anyone_for_jobs_of_this_machine(office: Office) -> None:
    office.queue()
    assert not office.dispatch.concerns(job.lane for job in office.store.scheduling.ready(9))
    assert not office.dispatch.hearing.hear()


def test_work_that_comes_right_after_a_count_is_counted_all_the_same(office: Office) -> None:
    office.ordered()
    office.queue("box")
    office.decide()
    demand, _ = office.ordered()
    assert demand["box"].jobs == 1
    office.queue("box", jobs=2, retries=1)  # of the same lane: it is looked at soon again
    office.decide()
    result = TurnResult()
    office.dispatch.order_pilots(Requests(), result)
    assert result.look_again_s <= 0.5


def test_work_that_has_found_its_place_asks_for_no_further_pilot(office: Office) -> None:
    office.queue("box")
    office.decide()
    office.ordered()
    office.pilot()
    office.decide()
    office.ordered()
    waiting = [
        {name: demand.jobs for name, demand in turn.items()} for turn, _ in office.fleet.turns
    ]
    assert waiting == [{"box": 1}, {}]


# --- for a job that fits nowhere a place is kept on one pilot, not on each of them


@pytest.fixture
def clock() -> ToyClock:
    return ToyClock()


def turn(places: KeptPlaces, **free_at: float) -> None:
    """Have a turn in which these pilots keep a place for job 1, where they may."""
    places.begin()
    for token, at in free_at.items():
        if places.may_keep(1, token):
            places.note(token, [Wait(job=1, reason="", kept_until=at)])


def keepers(places: KeptPlaces, *tokens: str) -> list[str]:
    return [token for token in tokens if places.may_keep(1, token)]


def test_the_pilot_that_is_free_first_keeps_the_place(clock: ToyClock) -> None:
    places = KeptPlaces(clock)
    turn(places, a=50.0, b=20.0, c=70.0)
    places.begin()
    assert keepers(places, "a", "b", "c") == ["b"]


def test_it_stays_there_until_all_are_compared_anew(clock: ToyClock) -> None:
    places = KeptPlaces(clock)
    turn(places, a=50.0, b=20.0)
    turn(places, a=10.0, b=20.0)
    assert keepers(places, "a", "b") == ["b"]
    clock.now += CHOSEN_S
    turn(places, a=10.0, b=20.0)
    turn(places, a=10.0, b=20.0)
    assert keepers(places, "a", "b") == ["a"]


def test_a_pilot_that_is_lost_keeps_nothing(clock: ToyClock) -> None:
    places = KeptPlaces(clock)
    turn(places, a=50.0, b=20.0)
    turn(places, a=50.0, b=20.0)
    turn(places, a=50.0)  # b is gone
    turn(places, a=50.0)
    turn(places, a=50.0)
    assert keepers(places, "a") == ["a"]


def test_a_job_behind_a_wide_one_starts_on_the_pilot_that_keeps_no_place(office: Office) -> None:
    first, second = office.pilot("lp-1"), office.pilot("lp-2")
    job, *_ = office.queue("box", jobs=3)
    office.decide()
    office.end(first, f"{job}-1", Done(at=NOW))
    office.news()
    office.queue("box", spec=a_spec(cpus=2), group="wide", retries=1)
    (narrow,) = office.queue("box", group="narrow")
    first.orders(), second.orders()
    office.decide(discipline=EASY)
    assert (first.orders(), second.orders()) == ([], [])  # each might keep it
    office.decide(discipline=EASY)
    assert (first.orders(), second.orders()) == ([], [Run(attempt=f"{narrow}-1")])


# --- the user's file is read again when it was changed; while it cannot be understood, nothing is taken for gone


GOOD = '[backends.toy]\nkind = "slurm"\ncpus = 2\n'
BAD = '[backends.toy]\nkind = "slurm"\ncpus = "many"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


@pytest.fixture
def configured(file: Path) -> Followed[Backends]:
    return Followed({"LAUNCHER_CONFIG": str(file)}, configured_backends, lambda _: None)


def test_without_a_file_there_are_no_backends_and_one_that_is_written_counts(
    configured: Followed[Backends], file: Path
) -> None:
    file.write_text("")
    assert configured() == Backends()
    file.write_text(GOOD)
    assert configured().by_name["toy"].cpus == 2


def test_what_held_before_a_mistake_holds_on(configured: Followed[Backends], file: Path) -> None:
    file.write_text(GOOD)
    before = configured()
    file.write_text(BAD)
    assert configured() == before


def test_a_file_that_was_never_understood_is_no_file_without_backends(
    configured: Followed[Backends], file: Path
) -> None:
    file.write_text(BAD)
    for _ in range(2):
        with pytest.raises(UsageError, match="cpus"):
            configured()
    file.write_text(GOOD)
    assert configured().by_name.keys() == {"toy"}


def test_a_scheduler_that_begins_beside_a_mistake_sends_no_pilot_away(tmp_path: Path) -> None:
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
    assert not world.by_token[runs].leaving
    assert waits in world.cluster.alive()


def test_a_job_that_waits_meanwhile_is_told_what_is_to_be_corrected(office: Office) -> None:
    def mistaken() -> Backends:
        raise UsageError("config.toml:3: backends.box.cpus: expected a whole number")

    office.dispatch._backends = mistaken
    office.queue("box")
    (reason,) = office.decide().values()
    assert reason is not None
    assert reason.code is ReasonCode.NO_PILOT
    assert "config.toml is to be corrected first: config.toml:3: backends.box.cpus" in reason.text


# --- GPUs of pilots: what is learned of jobs there, and how much of a card that they share each may take


CARD = a_gpu(total=40)


@pytest.fixture
def pilot(office: Office) -> Pilot:
    """A pilot with a card."""
    return office.pilot(cpus=8, gpus=(CARD,))


def on_gpu(gib: float | None = 10, **changes: object) -> Resources:
    vram = None if gib is None else round(gib * GIB)
    return Resources(device="cuda", min_vram=vram, **changes)  # type: ignore[arg-type]


def beat(pilot: Pilot, number: int, used: float, **attempts: float) -> None:
    """Have a pilot tell how much of its card is in use, and by which of jobs 1, 2 …."""
    by = {
        f"{name.removeprefix('job')}-1": {CARD.uuid: round(gib * GIB)}
        for name, gib in attempts.items()
    }
    gpus = (replace(CARD, used=round(used * GIB)),)
    pilot.tell(Beat(number=number, gpus=gpus, used=by))


def test_two_jobs_share_a_card_of_a_pilot_where_their_memory_allows_it(
    office: Office, pilot: Pilot
) -> None:
    office.queue("box", jobs=3, spec=a_spec(resources=on_gpu(15)))
    office.decide()
    assert pilot.runs() == [1, 2]
    assert [claim.gpus for claim in office.store.scheduling.claims()] == [(CARD.uuid,)] * 2


def test_job_that_needs_a_gpu_is_not_sent_to_a_pilot_without_one(office: Office) -> None:
    pilot = office.pilot()  # it was to have one, and got none
    office.queue("box", spec=a_spec(resources=on_gpu()))
    assert office.told() == "box: needs a GPU, and this pilot has none"
    assert pilot.orders() == []


def test_memory_in_use_on_a_card_of_a_pilot_keeps_jobs_away(office: Office, pilot: Pilot) -> None:
    beat(pilot, 1, 35)
    office.dispatch.hearing.hear()
    office.queue("box", spec=a_spec(resources=on_gpu(10)))
    office.dispatch.places.look_at_gpus()
    office.decide()
    assert pilot.orders() == []
    beat(pilot, 2, 1)
    office.looked()
    office.decide()
    assert pilot.runs() == [1]


def test_what_a_job_took_there_is_learned_with_the_card_on_which_it_was(
    office: Office, pilot: Pilot
) -> None:
    office.queue("box", spec=a_spec(resources=on_gpu(15)))
    office.decide()
    beat(pilot, 1, 12, job1=12)
    office.looked()
    (claim,) = office.store.scheduling.claims()
    measured = office.measured(claim)
    assert (measured.peak, measured.machine) == (12 * GIB, CARD.fingerprint)


def test_peak_of_a_short_job_is_what_its_worker_told_last(office: Office, pilot: Pilot) -> None:
    office.queue("box", spec=a_spec(resources=on_gpu(15)))
    office.decide()
    (claim,) = office.store.scheduling.claims()
    share = Share(pilot.folder.attempt("1-1").folder)
    share.report(reserved=GIB, peak=3 * GIB, last=True)
    assert office.measured(claim).peak == 3 * GIB + CONTEXT


def test_jobs_that_share_a_card_of_a_pilot_are_told_how_much_of_it_is_theirs(
    office: Office, pilot: Pilot
) -> None:
    office.queue("box", jobs=2, spec=a_spec(resources=on_gpu(15)))
    office.decide()
    beat(pilot, 1, 28, job1=12, job2=16)
    office.looked()
    office.dispatch.places.send_limits()
    limits = [read_share(pilot.folder.attempt(name)) for name in ("1-1", "2-1")]
    assert [limit and limit.cap for limit in limits] == [15 * GIB, 16 * GIB]


def test_memory_of_an_attempt_that_has_just_ended_counts_as_free(
    office: Office, pilot: Pilot
) -> None:
    office.queue("box", spec=a_spec(resources=on_gpu(30)))
    office.decide()
    beat(pilot, 1, 30, job1=30)
    office.looked()
    office.attempts.remove(1)
    (place,) = office.dispatch.places.all()
    assert [gpu.used for gpu in place.machine({}).gpus] == [0]


def test_job_whose_card_on_a_pilot_fails_has_to_leave_it(office: Office, pilot: Pilot) -> None:
    office.queue("box", spec=a_spec(resources=on_gpu()))
    office.decide()
    pilot.tell(Beat(number=1, gpus=(replace(CARD, fault="fell off the bus"),)))
    assert office.looked() == {1: "cuda:0 fell off the bus"}


def test_owners_visible_devices_say_nothing_of_a_pilots_cards(office: Office, pilot: Pilot) -> None:
    office.queue("box", spec=a_spec(resources=on_gpu()), visible="7")
    office.decide()
    assert pilot.runs() == [1]
