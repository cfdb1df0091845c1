"""GPUs of pilots: what is learned of jobs there, and how much of a card that they share each may take."""

from dataclasses import replace

from launcher.backends.channel import Beat, Run
from launcher.job import Resources
from launcher.workers.memory_share import CONTEXT, Share, read_share
from tests.build import GIB, a_gpu, a_spec
from tests.launcher.scheduler.dispatch.conftest import Office
from tests.launcher.scheduler.remote.toy_pilot import Pilot

CARD = a_gpu(total=40)


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


def test_two_jobs_share_a_card_of_a_pilot_where_their_memory_allows_it(office: Office) -> None:
    pilot = office.pilot(cpus=8, gpus=(CARD,))
    office.queue("box", jobs=3, spec=a_spec(resources=on_gpu(15)))
    office.decide()
    assert pilot.orders() == [Run(attempt="1-1"), Run(attempt="2-1")]
    assert [claim.gpus for claim in office.store.scheduling.claims()] == [(CARD.uuid,)] * 2


def test_job_that_needs_a_gpu_is_not_sent_to_a_pilot_without_one(office: Office) -> None:
    pilot = office.pilot()  # it was to have one, and got none
    office.queue("box", spec=a_spec(resources=on_gpu()))
    (reason,) = office.decide().values()
    assert reason is not None
    assert reason.text == "box: needs a GPU, and this pilot has none"
    assert pilot.orders() == []


def test_memory_in_use_on_a_card_of_a_pilot_keeps_jobs_away(office: Office) -> None:
    pilot = office.pilot(cpus=8, gpus=(CARD,))
    beat(pilot, 1, 35)
    office.dispatch.hearing.hear()
    office.queue("box", spec=a_spec(resources=on_gpu(10)))
    office.dispatch.places.look_at_gpus()
    office.decide()
    assert pilot.orders() == []
    beat(pilot, 2, 1)
    office.dispatch.hearing.hear()
    office.dispatch.places.look_at_gpus()
    office.decide()
    assert pilot.orders() == [Run(attempt="1-1")]


def test_what_a_job_took_there_is_learned_with_the_card_on_which_it_was(office: Office) -> None:
    pilot = office.pilot(cpus=8, gpus=(CARD,))
    office.queue("box", spec=a_spec(resources=on_gpu(15)))
    office.decide()
    beat(pilot, 1, 12, job1=12)
    office.dispatch.hearing.hear()
    office.dispatch.places.look_at_gpus()
    (claim,) = office.store.scheduling.claims()
    place = office.dispatch.places.of(claim)
    assert place is not None
    measured = place.measured(claim)
    assert (measured.peak, measured.machine) == (12 * GIB, CARD.fingerprint)


def test_peak_of_a_short_job_is_what_its_worker_told_last(office: Office) -> None:
    pilot = office.pilot(cpus=8, gpus=(CARD,))
    office.queue("box", spec=a_spec(resources=on_gpu(15)))
    office.decide()
    (claim,) = office.store.scheduling.claims()
    share = Share(pilot.folder.attempt("1-1").folder)
    share.report(reserved=GIB, peak=3 * GIB, last=True)
    place = office.dispatch.places.of(claim)
    assert place is not None
    assert place.measured(claim).peak == 3 * GIB + CONTEXT


def test_jobs_that_share_a_card_of_a_pilot_are_told_how_much_of_it_is_theirs(
    office: Office,
) -> None:
    pilot = office.pilot(cpus=8, gpus=(CARD,))
    office.queue("box", jobs=2, spec=a_spec(resources=on_gpu(15)))
    office.decide()
    beat(pilot, 1, 28, job1=12, job2=16)
    office.dispatch.hearing.hear()
    office.dispatch.places.look_at_gpus()
    office.dispatch.places.send_limits()
    limits = [read_share(pilot.folder.attempt(name)) for name in ("1-1", "2-1")]
    assert [limit and limit.cap for limit in limits] == [15 * GIB, 16 * GIB]


def test_memory_of_an_attempt_that_has_just_ended_counts_as_free(office: Office) -> None:
    pilot = office.pilot(cpus=8, gpus=(CARD,))
    office.queue("box", spec=a_spec(resources=on_gpu(30)))
    office.decide()
    beat(pilot, 1, 30, job1=30)
    office.dispatch.hearing.hear()
    office.dispatch.places.look_at_gpus()
    office.attempts.remove(1)
    (place,) = office.dispatch.places.all()
    assert [gpu.used for gpu in place.machine({}).gpus] == [0]


def test_job_whose_card_on_a_pilot_fails_has_to_leave_it(office: Office) -> None:
    pilot = office.pilot(cpus=8, gpus=(CARD,))
    office.queue("box", spec=a_spec(resources=on_gpu()))
    office.decide()
    pilot.tell(Beat(number=1, gpus=(replace(CARD, fault="fell off the bus"),)))
    office.dispatch.hearing.hear()
    assert office.dispatch.places.look_at_gpus() == {1: "cuda:0 fell off the bus"}


def test_owners_visible_devices_say_nothing_of_a_pilots_cards(office: Office) -> None:
    pilot = office.pilot(cpus=8, gpus=(CARD,))
    office.queue("box", spec=a_spec(resources=on_gpu()), visible="7")
    office.decide()
    assert pilot.orders() == [Run(attempt="1-1")]
