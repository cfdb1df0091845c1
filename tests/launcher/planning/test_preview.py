import json
from collections.abc import Sequence

import pytest

from launcher.accounts import Account
from launcher.context import WorkerEnvironment
from launcher.job import CPU, Resources
from launcher.planning.estimates import Past
from launcher.planning.first_wave import FirstWave, MachineState
from launcher.planning.plan import Plan
from launcher.planning.preview import Preview, preview_plan
from launcher.planning.queue_comparison import Action, ComparedJob
from launcher.scheduler.policy.disciplines import FIFO
from launcher.scheduler.policy.model import Machine, Running
from launcher.store.rows import Lane, ReadyJob
from launcher.store.usage import Usage
from tests.launcher.plans import (
    GIB,
    NOON,
    a_gpu,
    a_history,
    a_plan,
    compared_jobs,
    done_before,
    here,
    named,
    some_commands,
)


def outlook(made: Plan, around: MachineState, *past: Past, done: int = 0) -> Preview:
    history = a_history(*past, gpus=bool(around.machine.gpus))
    return preview_plan(compared_jobs(made, done), history, around)


def waves(judged: Sequence[ComparedJob], around: MachineState) -> FirstWave:
    return preview_plan(judged, a_history(), around).wave


def in_the_queue(job: int, rank: float = 0.0, cpus: int = 1) -> ReadyJob:
    lane = Lane(group="", resources=Resources(cpus=cpus), environment=WorkerEnvironment())
    return ReadyJob(id=job, rank=rank, lane_id=1, lane=lane)


def test_only_jobs_that_need_nothing_unfinished_are_in_the_first_wave() -> None:
    made = a_plan()
    assert outlook(made, here()).wave == FirstWave(starts={("shapes", CPU): 1})
    # the toys are there: the first training and the poison of the second can begin
    wave = outlook(made, here(), done=1).wave
    assert wave.starts == {("train", CPU): 1, ("poison", CPU): 1}


def test_what_does_not_fit_says_what_it_lacks() -> None:
    made = some_commands("", ", resources: {cpus: 4}", "")
    wave = outlook(made, here(cpus=4)).wave
    assert wave.starts == {("command", CPU): 1}
    assert wave.hindrance == "command/c1 needs 4 cores, 3 of 4 free"


def test_a_plan_of_a_new_run_comes_before_a_run_that_had_much() -> None:
    made = some_commands("", "")
    sweep = Account(run=7, name="sweep", vtime=1e6)
    queue = tuple(in_the_queue(n, rank=NOON)._replace(account=sweep) for n in range(1, 9))
    wave = outlook(made, here(cpus=2)._replace(ready=queue)).wave
    assert wave.starts == {("command", CPU): 2}
    same = here(cpus=2)._replace(ready=queue, account=sweep)
    assert outlook(made, same).wave.starts == {}


def test_as_many_trainings_start_on_each_card_as_it_has_room_for() -> None:
    entry = "{model: null, data: %s, resources: {vram: 16GiB}}"
    words = ("dot:pre", "line:pre", "ring:pre", "real:pre", "any:pre")
    made = a_plan("name: x\ntrain:\n" + "".join(f"  - {entry % word}\n" for word in words))
    wave = outlook(made, here(a_gpu(0), a_gpu(1, free=6.3), a_gpu(2), cpus=8)).wave
    assert wave.starts == {("train", "cuda:0"): 2, ("train", "cuda:2"): 2}
    assert wave.hindrance.startswith(
        "train/any:pre needs 16 GiB; cuda:0 has 39 GiB free, 32 GiB of it promised to "
    )
    assert "; cuda:1 has 6.3 GiB free; cuda:2 has 39 GiB free" in wave.hindrance


def test_a_plan_hears_of_jobs_that_can_never_start_and_why() -> None:
    made = a_plan("name: x\nresources: {train: {gpus: 3}}\ntrain: [{model: null, data: dot:pre}]\n")
    wave = outlook(made, here(a_gpu(0), a_gpu(1))).wave
    assert wave.hopeless == {"needs 3 GPUs, and this machine has 2": 1}
    assert outlook(made, here(a_gpu(0), a_gpu(1), a_gpu(2))).wave.hopeless == {}


def test_a_plan_is_promised_what_jobs_like_it_took() -> None:
    made = a_plan("name: x\ntrain: [{model: null, data: dot:pre}, {model: null, data: ring:pre}]\n")
    around = here(a_gpu(), usage=lambda _: Usage(peaks=(10 * GIB,)))
    assert outlook(made, here(a_gpu())).wave.starts == {("train", "cuda:0"): 1}
    assert outlook(made, around).wave.starts == {("train", "cuda:0"): 2}
    hidden = outlook(made, around._replace(visible=())).wave
    assert hidden.starts == {("train", CPU): 2}


def test_places_that_are_promised_already_are_not_given_again() -> None:
    busy = here(cpus=2, running=(Running(cpus=2),))
    wave = outlook(some_commands(""), busy).wave
    assert wave == FirstWave(hindrance="command/c0 needs 1 core, 0 of 2 free")


def test_what_waits_in_the_queue_already_goes_first() -> None:
    made = some_commands("")
    taken = here(cpus=1, ready=(in_the_queue(7, rank=NOON - 1),))
    assert outlook(made, taken).wave.starts == {}
    urgent = some_commands(", resources: {priority: 1}")
    assert outlook(urgent, taken).wave.starts == {("command", CPU): 1}


def test_the_policy_of_the_queue_or_the_one_that_is_asked_for_decides() -> None:
    made = some_commands("")
    wide = in_the_queue(7, rank=NOON - 1, cpus=2)
    around = here(cpus=2, ready=(wide,), running=(Running(cpus=1),))._replace(queue_s=3600.0)
    assert outlook(made, around).wave.starts == {("command", CPU): 1}
    assert outlook(made, around._replace(discipline=FIFO)).wave.starts == {}


@pytest.mark.parametrize(("queue_s", "starts"), [(3600.0, 0), (7200.0, 1)])
def test_what_has_waited_half_as_long_again_as_the_queue_is_long_is_passed_no_more(
    queue_s: float, starts: int
) -> None:
    wide = in_the_queue(7, rank=NOON - 2 * 3600, cpus=2)
    around = here(cpus=2, ready=(wide,), running=(Running(cpus=1),))._replace(queue_s=queue_s)
    assert sum(outlook(some_commands(""), around).wave.starts.values()) == starts


def test_jobs_of_the_plan_that_are_queued_already_count_once() -> None:
    (one,) = compared_jobs(some_commands(""))
    around = here(ready=(in_the_queue(7),))
    joined = one._replace(action=Action.JOIN, state="queued", number=7)
    again = one._replace(state="changed", number=7)
    assert waves([joined], around).starts == {("command", CPU): 1}
    assert waves([again], around).starts == {("command", CPU): 1}


def test_of_many_jobs_that_ask_for_the_same_no_more_are_tried_than_there_are_cores() -> None:
    wave = outlook(some_commands(*[""] * 50), here(cpus=3)).wave
    assert wave == FirstWave(starts={("command", CPU): 3})


def test_times_are_added_up_for_what_has_to_run_and_has_a_history() -> None:
    made = a_plan()
    past = [done_before(named(made, "train/dot:pre"), seconds) for seconds in (90.0, 110.0, 400.0)]
    wave = outlook(made, here(), *past).kinds
    train = wave["train"]  # poisoned or not, a training takes as long
    assert (train.jobs, train.known, train.seconds, train.runs) == (2, 2, 220.0, 3)
    assert (train.shortest, train.longest) == (110.0, 110.0)
    assert (wave["test"].known, wave["test"].jobs) == (0, 3)
    assert "shapes" not in outlook(made, here(), *past, done=1).kinds


def test_a_plan_takes_at_least_as_long_as_its_longest_chain() -> None:
    made = a_plan()
    times = {"shapes": 1.0, "poison": 2.0, "train": 10.0, "unlearn": 5.0, "test": 3.0}
    past = [done_before(job, times[job.kind]) for job in made.jobs]
    assert outlook(made, here(), *past).chain == 1 + 2 + 10 + 5 + 3
    assert outlook(made, here(), *past[:2]).chain is None


def test_disk_is_added_up_where_the_size_of_results_is_known() -> None:
    made = a_plan()
    past = [done_before(job, 1.0, disk=10) for job in made.jobs if job.kind == "train"]
    wave = outlook(made, here(), *past)
    assert (wave.disk, wave.disk_unknown) == (20, 6)
    assert outlook(made, here()).disk is None


def test_the_record_tells_absent_knowledge_as_null() -> None:
    machine = Machine(cpus=2, ram=4 * GIB, ram_free=GIB, gpus=(a_gpu(),))
    around = here(machine=machine, running=(Running(devices=("GPU-0",), cpus=1),))
    record = json.loads(json.dumps(outlook(some_commands(""), around).record()))
    assert record["machine"]["cpus_free"] == 1
    assert record["machine"]["gpus"][0]["total_bytes"] == 40 * GIB
    assert record["first_wave"]["starts"] == [{"kind": "command", "device": "cpu", "jobs": 1}]
    assert record["time"]["kinds"]["command"]["seconds"] is None
    assert record["disk"] == {"bytes": None, "unknown_jobs": 1, "free_bytes": 412 * GIB}
