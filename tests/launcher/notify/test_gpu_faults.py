from dataclasses import replace

from launcher.job_options.notifications import Event
from launcher.notify.machine_news import MOST_KEPT, faults_noted, pilot_faults_noted
from launcher.store.news import PilotFault
from tests.build import a_gpu

FAULT = PilotFault(at=5.0, job=7, name="train/a", pilot="t0ken", fault="cuda:1 fell off the bus")


def test_a_card_that_failed_is_told_once_until_it_works_again() -> None:
    broken = a_gpu(0, fault="fell off the bus")
    faults, (note,) = faults_noted({}, [broken, a_gpu(1)], 5.0)
    assert note.events == (Event.GPU_FAILED,)
    assert note.text.startswith("cuda:0 (NVIDIA A100) has failed: fell off the bus")
    assert faults_noted(faults, [replace(broken, fault="worse")], 6.0)[1] == []
    assert faults_noted(faults, [a_gpu(1)], 6.0) == (faults, [])  # not listed: it is as it was
    faults, notes = faults_noted(faults, [a_gpu(0)], 7.0)
    assert (faults, notes) == ({}, [])
    assert len(faults_noted(faults, [broken], 8.0)[1]) == 1


def test_a_card_of_a_pilot_that_failed_is_told_once_with_its_node() -> None:
    faults, (note,) = pilot_faults_noted({"GPU-0": "hot"}, [FAULT, FAULT], {"t0ken": "node3"})
    assert note.text.splitlines() == [
        "node3: cuda:1 fell off the bus",
        "  train/a (job 7) had to end; launcher doctor",
    ]
    assert note.events == (Event.GPU_FAILED,)
    assert faults["GPU-0"] == "hot"
    assert pilot_faults_noted(faults, [FAULT._replace(job=8)], {})[1] == []
    (other,) = pilot_faults_noted(faults, [FAULT._replace(pilot="other")], {})[1]
    assert other.text.startswith("pilot other: cuda:1 fell off the bus")


def test_what_is_kept_of_pilots_does_not_grow_for_ever() -> None:
    many = [FAULT._replace(pilot=str(number)) for number in range(2 * MOST_KEPT)]
    assert len(pilot_faults_noted({}, many, {})[0]) == MOST_KEPT
