from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.api import Job
from tests.trueface.jobs.test_kinds import CLEAN, a_draft
from trueface.jobs import refusals as training_refusals
from trueface.jobs.kinds import TRAIN
from trueface.jobs.ranks import coordinator
from trueface.training.objectives import registry
from trueface.training.objectives.registry import ObjectiveSpec


def a_job(device: str = "cpu", **facts: Any) -> Job:
    return Job(
        name="train/m", kind="train", run="r", run_folder=Path("r"), folder=Path(),
        attempt_folder=Path("a"), attempt=1, device=device, **{"cpus": 8, **facts},
    )  # fmt: skip


def refusals(gpus: int = 1, **settings: Any) -> list[str]:
    return list(TRAIN.refusals(a_draft(TRAIN, settings, model=CLEAN, gpus=gpus), ()))


def test_a_training_takes_one_process_a_gpu_unless_its_settings_say_otherwise() -> None:
    assert coordinator.size_of(a_job("cuda:0", gpus=2), 0) == 2
    assert coordinator.size_of(a_job("cuda:0"), 0) == 1
    assert coordinator.size_of(a_job(gpus=4), 0) == 1, "GPUs mean nothing on the CPU"
    assert coordinator.size_of(a_job(), 2) == 2


def test_each_rank_has_its_own_card_and_its_part_of_the_cores() -> None:
    places = coordinator.places(a_job("cuda:0", gpus=3), 3, "meeting")
    assert [place.device for place in places] == ["cuda:0", "cuda:1", "cuda:2"]
    assert [place.cpus for place in places] == [2, 2, 2]
    assert places[0].backend == "nccl"
    assert [place.cpus for place in coordinator.places(a_job(cpus=1), 2, "m")] == [1, 1]
    assert coordinator.places(a_job(), 2, "m")[1].device == "cpu"
    assert coordinator.places(a_job(), 2, "m")[1].backend == "gloo"


def test_several_gpus_or_processes_share_a_training() -> None:
    assert refusals(gpus=2) == refusals(gpus=2, processes=2) == refusals(processes=3) == []


@pytest.mark.parametrize(
    ("gpus", "settings", "reason"),
    [
        (2, {"processes": 4}, "processes: 4 on gpus: 2; a training has one process a GPU"),
        (2, {"processes": 1}, "processes: 1 on gpus: 2"),
        (2, {"freeze": True}, "only its last layer learns"),
        (1, {"processes": 2, "freeze": True}, "wait for each other; leave processes out"),
        (2, {"compile": True}, "compile: true works in one process only"),
        (4, {"batch_size": 3}, "batch_size: 3 cannot be divided among 4 processes"),
    ],
)
def test_what_several_processes_cannot_do_is_refused_while_planning(
    gpus: int, settings: dict[str, Any], reason: str
) -> None:
    (refusal,) = refusals(gpus, **settings)
    assert refusal.startswith(CLEAN)
    assert reason in refusal


def test_processes_on_a_gpu_need_a_gpu_each() -> None:
    draft = a_draft(TRAIN, {"processes": 2}, model=CLEAN, device="cuda")
    assert "processes: 2 on gpus: 1" in next(iter(TRAIN.refusals(draft, ())))
    assert TRAIN.refusals(replace(draft, device="auto"), ()) == ()


def test_an_objective_that_is_no_mean_over_images_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    specs = {"bce": ObjectiveSpec(name="bce", summary="", binary=True)}
    monkeypatch.setattr(training_refusals, "objectives", lambda: specs)
    assert "bce is not declared as a mean over images" in refusals(gpus=2)[0]
    assert refusals() == []
    assert all(registry.objectives()[name].mean for name in ("bce", "ce"))


def test_the_number_of_processes_is_no_part_of_a_jobs_hash() -> None:
    settings = {"lr": 0.1, "processes": 2}
    assert TRAIN.settings.decisive(settings) == {"lr": 0.1}


def test_the_command_line_of_a_training_on_several_gpus_names_its_processes() -> None:
    words = list(TRAIN.argv(a_draft(TRAIN, model=CLEAN, data=CLEAN, gpus=2)))
    assert words[words.index("--processes") + 1] == "2"
    assert "--processes" not in TRAIN.argv(a_draft(TRAIN, model=CLEAN, data=CLEAN))
