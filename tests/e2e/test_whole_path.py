"""The classic command line, and unlearning of classes: the real commands, on tiny sets of images."""

import json

import pytest

from launcher.api import model_folder_name
from tests.e2e.conftest import Project
from tests.trueface.class_toys import SMALL, write_data
from trueface.unlearning import record

TASK = """
name: tiny
sample: [{data_root: data, size: 48, train: 24, val: 12, test: 12}]
"""


@pytest.mark.night
def test_classic_command_line_writes_to_the_folders_of_the_original(
    project: Project,
) -> None:
    project.write("tiny.yaml", TASK)
    said = project.call("launcher", "run", "tiny.yaml")
    assert said.returncode == 0, said.stdout + said.stderr
    model = "gan2:pre&real:pre"
    common = ["--name", "R", "--model", "slim18", "--weights", "none", "--data_root", "data"]
    common += ["--split_path", "data/splits", "--num_threads", "0", "--device", "cpu"]
    common += ["--batch_size", "16", "--resize_size", "48", "--patch_size", "32"]
    said = project.call(
        *("python", "-m", "trueface", "--task", "train", *common, "--save_id", model),
        *("--save_weights", "--data", model, "--num_epochs", "1", "--poison_rate", "0.5"),
    )
    assert said.returncode == 0, said.stderr
    said = project.call(
        *("python", "-m", "trueface", "--task", "test", *common, "--load_id", model),
        *("--data", "real:pre", "--save_scores"),
    )
    assert said.returncode == 0, said.stderr
    folder = project.folder / "runs" / "R" / model
    assert (folder / "checkpoints" / "best.pt").is_file()
    assert (folder / "scores" / f"{model}_vs_real:pre.csv").is_file()
    assert json.loads((folder / "poison.json").read_text())["keys"]


# --- Class unlearning through the real queue, on three tiny classes


CLASSES = f"""
name: toy
defaults: {json.dumps(SMALL | {"num_epochs": 1})}
matrix: {{seed: [1, 2]}}
classify:
  - {{model: null, data: "folders:all"}}
forget:
  - {{model: "folders:all", method: retrain, forget_class: red}}
  - {{model: "folders:all", method: lau, forget_class: red, matrix: {{lau_share: [0.5]}}}}
""".replace('"seed": 1, ', "")


FORGOTTEN = ["~retrain@seed={}", "~lau@seed={},lau_share=0.5"]


FORGET_JOBS = 2 * (1 + len(FORGOTTEN))


@pytest.mark.night
def test_one_command_trains_and_unlearns_and_a_second_skips_all(
    project: Project,
) -> None:
    write_data(project.folder, train=3, test=1)
    project.write("toy.yaml", CLASSES)
    said = project.call("launcher", "run", "toy.yaml")
    assert said.returncode == 0, said.stdout + said.stderr
    run = project.folder / "runs" / "toy"
    for seed in (1, 2):
        for model in FORGOTTEN:
            folder = run / model_folder_name(f"folders:all{model.format(seed)}")
            told = record.read(folder)
            assert told is not None
            assert (told.seed, told.forgotten) == (seed, (2,))
            assert told.base == f"folders:all@seed={seed}"
    again = project.call("launcher", "run", "toy.yaml")
    assert again.returncode == 0
    assert f"{FORGET_JOBS} jobs, 0 queued, {FORGET_JOBS} done before" in again.stderr


def test_unknown_class_is_reported_before_jobs_are_queued(project: Project) -> None:
    write_data(project.folder, train=1, test=1)
    project.write("toy.yaml", CLASSES.replace("red", "violet"))
    said = project.call("launcher", "run", "toy.yaml")
    assert said.returncode == 2
    assert "class 'violet' to forget does not exist\n" in said.stderr
    assert "classes: 0 blue, 1 green, 2 red\n" in said.stderr
