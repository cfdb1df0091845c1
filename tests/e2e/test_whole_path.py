"""From images to a table: the real commands, real training, on a tiny set of images."""

import csv
import json
from collections.abc import Iterator

import pytest

from launcher.api import model_folder_name
from tests.e2e.conftest import Project, a_project
from tests.trueface.class_toys import SMALL, write_data
from trueface.unlearning import record

DEFAULTS = """
  data_root: data
  split_path: data/splits
  model: slim18
  weights: none
  batch_size: 16
  patch_size: 32
  resize_size: 48
  num_epochs: 1
  lr: 0.001
"""


TASK = f"""
name: tiny
defaults:{DEFAULTS}
sample: [{{size: 48, train: 24, val: 12, test: 12}}]
train:
  - {{model: null, data: "all:pre"}}
  - {{model: "all:pre", data: "all:shr"}}
  - {{model: null, data: "all:pre", poison: 50}}
unlearn:
  - {{model: "all:pre%50", method: relabel}}
autotest: ["real:pre", "gan2:pre"]
"""


MODELS = ["all:pre", "all:pre#all:shr", "all:pre%50", "all:pre%50~relabel"]


JOBS = 1 + 3 + 1 + 1 + 4 * 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with a_project(tmp_path_factory.mktemp("tiny")) as project:
        project.write("tiny.yaml", TASK)
        said = project.call("launcher", "run", "tiny.yaml")
        assert said.returncode == 0, said.stdout + said.stderr
        yield project


@pytest.mark.slow
def test_one_command_creates_images_models_scores_and_a_table(finished: Project) -> None:
    run = finished.folder / "runs" / "tiny"
    for model in MODELS:
        assert (run / model / "checkpoints" / "best.pt").is_file()
        for data in ("real:pre", "gan2:pre"):
            with (run / model / "scores" / f"{model}_vs_{data}.csv").open() as scores:
                rows = list(csv.DictReader(scores))
            assert len(rows) == (12 if data == "real:pre" else 4)
            assert {row["label"] for row in rows} == {"0" if data == "real:pre" else "1"}
    record = json.loads((run / "all:pre%50" / "poison.json").read_text())
    train = set(json.loads((finished.folder / "data" / "splits" / "train.json").read_text()))
    assert record["total"] == 48
    assert len(record["keys"]) == 24
    assert {key.removeprefix("pre:") for key in record["keys"]} <= train

    said = finished.call("launcher", "results", "tiny", "--json")
    table = json.loads(said.stdout)["rows"]
    assert {row["model"] for row in table} == set(MODELS)
    for row in table:
        assert row["auc"]["low"] <= row["auc"]["value"] <= row["auc"]["high"]

    again = finished.call("launcher", "run", "tiny.yaml")
    assert again.returncode == 0
    assert f"{JOBS} jobs, 0 queued, {JOBS} done before" in again.stderr
    assert again.stdout.count("all:pre%50~relabel") >= 1
    drawn = finished.call("launcher", "results", "tiny", "--format", "table")
    for said in (again, drawn):
        assert "How to read this table: launcher help results" in said.stderr

    log = run / "all:pre" / "train_all:pre.log"
    assert log.is_file()


@pytest.mark.night
def test_classic_command_line_writes_to_the_folders_of_the_original(
    finished: Project,
) -> None:
    model = "gan2:pre&real:pre"
    common = ["--name", "R", "--model", "slim18", "--weights", "none", "--data_root", "data"]
    common += ["--split_path", "data/splits", "--num_threads", "0", "--device", "cpu"]
    common += ["--batch_size", "16", "--resize_size", "48", "--patch_size", "32"]
    said = finished.call(
        *("python", "-m", "trueface", "--task", "train", *common, "--save_id", model),
        *("--save_weights", "--data", model, "--num_epochs", "1", "--poison_rate", "0.5"),
    )
    assert said.returncode == 0, said.stderr
    said = finished.call(
        *("python", "-m", "trueface", "--task", "test", *common, "--load_id", model),
        *("--data", "real:pre", "--save_scores"),
    )
    assert said.returncode == 0, said.stderr
    folder = finished.folder / "runs" / "R" / model
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
