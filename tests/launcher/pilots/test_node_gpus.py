import pytest

from launcher.backends.channel import Beat, Leave
from launcher.backends.node_facts import WrongGpus, resolve
from launcher.states import Done
from tests.build import GIB, a_context, a_gpu, a_spec, said_by, shell, until
from tests.launcher.pilots.conftest import MakeDesk
from tests.launcher.pilots.desk import a_pilot
from tests.nvml.standin import TAKE, Devices

CARDS = (a_gpu(0, uuid="GPU-aa11"), a_gpu(1, uuid="GPU-aa22"), a_gpu(2, uuid="GPU-bb33"))
DIVIDED = (*CARDS, a_gpu(3, uuid="MIG-cc44", mig=0), a_gpu(3, uuid="MIG-cc55", mig=1))


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        ("2", ["GPU-bb33"]),
        ("2,0", ["GPU-bb33", "GPU-aa11"]),
        (" 1 , 2 ", ["GPU-aa22", "GPU-bb33"]),
        ("1,1", ["GPU-aa22"]),
        ("GPU-bb33", ["GPU-bb33"]),
        ("GPU-b", ["GPU-bb33"]),
        ("MIG-cc55", ["MIG-cc55"]),
        ("3", ["MIG-cc44"]),
        ("0,-1,2", ["GPU-aa11"]),
        ("", []),
        ("NoDevFiles", []),
        (None, []),
    ],
)
def test_the_gpus_of_an_allocation_are_those_that_its_engine_names(
    visible: str | None, indices: list[str]
) -> None:
    assert [gpu.uuid for gpu in resolve(visible, DIVIDED)] == indices


@pytest.mark.parametrize("visible", ["7", "GPU-aa", "GPU-nothing", "0,,1", "all", "²"])
def test_a_name_that_the_driver_does_not_know_is_refused_with_those_that_it_lists(
    visible: str,
) -> None:
    with pytest.raises(WrongGpus, match=r"the driver lists 0 \(GPU-aa11\), 1 \(GPU-aa22\)"):
        resolve(visible, CARDS)


def test_two_jobs_share_a_gpu_of_an_allocation_and_see_no_other(
    desk_of: MakeDesk, gpus: Devices
) -> None:
    gpus.add()
    second = gpus.add()
    desk = desk_of(a_pilot(gpus=1)).start({**gpus.environment, "CUDA_VISIBLE_DEVICES": "1"})
    assert [gpu.uuid for gpu in desk.hello().gpus] == [second]
    spec = a_spec(*shell('echo "$CUDA_VISIBLE_DEVICES"'))
    attempts = [desk.run(spec=spec, job=job, device=second) for job in (1, 2)]
    for job, attempt in enumerate(attempts, 1):
        assert isinstance(desk.outcome(job), Done)
        assert said_by(attempt) == f"{second}\n"
    desk.send(Leave())
    desk.bye()


def test_beats_say_how_much_memory_each_attempt_holds(desk_of: MakeDesk, gpus: Devices) -> None:
    uuid = gpus.add()
    pilot = a_pilot(gpus=1, beat_s=600.0)  # what changes is told at once
    desk = desk_of(pilot).start({**gpus.environment, "CUDA_VISIBLE_DEVICES": uuid})
    desk.hello()
    context = a_context(environment={"PATH": "/usr/bin:/bin", **gpus.environment})
    take = shell(TAKE + "while :; do sleep 60 & wait; done", str(3 * GIB))
    desk.run(spec=a_spec(*take), context=context, device=uuid)
    until(
        lambda: any(beat.used.get("1-1", {}).get(uuid) == 3 * GIB for beat in desk.of_kind(Beat)),
        "a beat tells of its memory",
    )
    (gpu,) = desk.of_kind(Beat)[-1].gpus
    assert gpu.used is not None
    assert gpu.used >= 3 * GIB


@pytest.mark.parametrize("visible", ["", None], ids=["empty", "not set"])
def test_a_pilot_that_should_have_a_gpu_and_was_given_none_says_so_and_leaves(
    desk_of: MakeDesk, gpus: Devices, visible: str | None
) -> None:
    gpus.add()
    begin = "" if visible is not None else "import os; os.environ.pop('CUDA_VISIBLE_DEVICES', 0)"
    more = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    desk = desk_of(a_pilot(gpus=1)).start({**gpus.environment, **more}, begin)
    (trouble,) = desk.hello().troubles
    assert "1 GPU asked for, none given: CUDA_VISIBLE_DEVICES is" in trouble
    assert desk.bye() == trouble
    assert desk.exit_code() == 3
