"""Class unlearning through the real queue, on three tiny classes."""

import json

import pytest

from launcher.api import model_folder_name
from tests.e2e.conftest import Project
from tests.trueface.class_toys import SMALL, write_data
from trueface.unlearning import record

TASK = f"""
name: toy
defaults: {json.dumps(SMALL | {"num_epochs": 1})}
matrix: {{seed: [1, 2]}}
classify:
  - {{model: null, data: "folders:all"}}
forget:
  - {{model: "folders:all", method: retrain, forget_class: red}}
  - {{model: "folders:all", method: lau, forget_class: red, matrix: {{lau_share: [0.5]}}}}
""".replace('"seed": 1, ', "")
MODELS = ["~retrain@seed={}", "~lau@seed={},lau_share=0.5"]
JOBS = 2 * (1 + len(MODELS))


@pytest.mark.night
def test_one_command_trains_and_forgets_and_a_second_one_finds_all_of_it_done(
    project: Project,
) -> None:
    write_data(project.folder, train=3, test=1)
    project.write("toy.yaml", TASK)
    said = project.call("launcher", "run", "toy.yaml")
    assert said.returncode == 0, said.stdout + said.stderr
    run = project.folder / "runs" / "toy"
    for seed in (1, 2):
        for model in MODELS:
            folder = run / model_folder_name(f"folders:all{model.format(seed)}")
            told = record.read(folder)
            assert told is not None
            assert (told.seed, told.forgotten) == (seed, (2,))
            assert told.base == f"folders:all@seed={seed}"
    again = project.call("launcher", "run", "toy.yaml")
    assert again.returncode == 0
    assert f"{JOBS} jobs, 0 queued, {JOBS} done before" in again.stderr


def test_a_class_that_is_not_there_is_told_before_anything_is_queued(project: Project) -> None:
    write_data(project.folder, train=1, test=1)
    project.write("toy.yaml", TASK.replace("red", "violet"))
    said = project.call("launcher", "run", "toy.yaml")
    assert said.returncode == 2
    assert "there is no class 'violet' to forget; there are 0 blue, 1 green, 2 red" in said.stderr
