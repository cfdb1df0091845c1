import csv
from contextlib import chdir
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from launcher.api import Draft
from launcher.experiments.kinds import installed_kinds
from tests.trueface.commands import Command
from tests.trueface.generators.run_by_hand import METHODS, PURIFIERS, erased_run, restored_run
from tests.trueface.group_runs import logits, write_tests
from trueface.runtime import paths

SMALL = {
    "size": 8,
    "channels": 1,
    "network": "mlp",
    "widths": (16,),
    "num_steps": 2,
    "batch_size": 2,
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    folder = tmp_path / "data" / "A"
    folder.mkdir(parents=True)
    for number in range(4):
        levels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        PIL.Image.fromarray(levels).save(folder / f"{number}.png")
    return tmp_path


def _drawn(project: Path) -> Draft:
    kind = installed_kinds(["diffuser"])["diffuser"]
    settings = kind.settings.model_validate({"data_root": "data", **SMALL})
    return Draft(
        kind="diffuser",
        run="night",
        run_folder=project / "runs/night",
        folder=project,
        model="images:A",
        data="images:A",
        images="images:A",
        settings=settings.model_dump(mode="json"),
    )


def test_command_printed_by_a_plan_runs_the_job(command: Command, project: Path) -> None:
    draft = _drawn(project)
    words = installed_kinds(["diffuser"])["diffuser"].argv(draft)
    assert words[:4] == ("python", "-m", "trueface", "generate")
    with chdir(project):
        command(*words[3:], "--device", "cpu")
    assert paths.checkpoint(draft.model_folder("images:A")).is_file()


def test_each_installed_generation_kind_is_a_command(
    command: Command,
) -> None:
    listed = command("generate", "--help").out
    ours = [
        name
        for name, kind in installed_kinds().items()
        if kind.entry.startswith("trueface.generators.jobs.")
    ]
    assert ours
    assert not [name for name in ours if f"  {name} " not in listed]


def test_disrupt_help_states_that_batch_size_changes_pixels(command: Command) -> None:
    text = " ".join(command("generate", "disrupt", "--help").out.split())
    assert "Another number changes rounding, and with it single pixels" in text


@pytest.mark.parametrize(
    ("kind", "example"),
    [("translator", "labelled:A"), ("diffuser", "images:A"), ("denoiser", "noisy:A")],
)
def test_help_of_kind_shows_a_valid_id(kind: str, example: str, command: Command) -> None:
    assert f"as '{example}'" in " ".join(command("generate", kind, "--help").out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["diffusr"], "diffusr"),
        (["diffuser", "--model", "images:A"], "--data-root is required"),
        (["diffuser", "--model", "images:B", "--data-root", "data"], "the folder of images"),
        (["diffuser", "--model", "pictures:A", "--data-root", "data"], "set of images"),
        (["diffuser", "--model", "images:A", "--data-root", "data", "--size", "x"], "--size"),
        (["diffuser", "--run", "a/b", "--model", "images:A", "--data-root", "data"], "--run"),
    ],
)
def test_impossible_jobs_are_rejected_before_any_output(
    project: Path, words: list[str], message: str, command: Command
) -> None:
    with chdir(project):
        assert message in command("generate", *words, code=2).err
    assert not (project / "runs").exists()


def test_json_error_of_run_without_matching_jobs_contains_advice(
    project: Path, command: Command
) -> None:
    (project / "runs/night").mkdir(parents=True)
    with chdir(project):
        for study, kind in (("purification", "restored"), ("erasing", "erased")):
            assert (
                f"no finished job of type {kind}" in command(study, "night", "--json", code=2).err
            )
            assert "run 'day' does not exist" in command(study, "day", code=2).err


@pytest.fixture
def studied(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "study"
    restored_run(folder)
    erased_run(folder)
    return folder


def test_purification_prints_one_row_per_purifier_and_writes_its_page(
    studied: Path, command: Command
) -> None:
    page = studied / "purification.html"
    write_tests(studied, "gan2:pre", [logits(label, power=3, skew=0) for label in (0, 1)])
    document = command("purification", studied, "--json", "--page", page).json
    assert document["schema"] == 1
    assert [row["method"] for row in document["purifiers"]] == [
        "none",
        *sorted(name for name, *_ in PURIFIERS if name != "none"),
    ]
    assert {row["attack"] for row in document["attacks"]} == {"pgd"}
    assert {(each["model"], each["trained_on"]) for each in document["detectors"]} == {
        ("gan2:pre", "clean")
    }
    assert any("No verdict without an adaptive attack" in line for line in document["verdict"])
    assert "<h1>study: purification</h1>" in page.read_text()


def test_erasing_prints_one_row_per_method_and_writes_its_page(
    studied: Path, command: Command
) -> None:
    page = studied / "pages" / "erasing.html"
    document = command("erasing", studied, "--json", "--page", page).json
    assert {row["method"] for row in document["methods"]} == {name for name, *_ in METHODS}
    assert "<h1>study: erasing</h1>" in page.read_text()


def test_csv_and_latex_of_studies_have_their_verdicts_and_gaps(
    studied: Path, command: Command, tmp_path: Path
) -> None:
    lines = [*csv.DictReader(command("erasing", studied, "--csv", "-").out.splitlines())]
    assert {line["measure"] for line in lines} == {
        "erased", "anchor", "others", "recovery", "recovery_floor", "recovery_ceiling",
    }  # fmt: skip
    assert lines[0] == {
        "method": "teacher", "concept": "cross", "anchor_class": "disc", "seeds": "2",
        "measure": "erased", "value": "1.0", "sd": "0.0", "n": "2", "low": "", "high": "", "why": "",
        "verdict": "",
    }  # fmt: skip
    command("purification", studied, "--csv", tmp_path / "p.csv")
    rows = {
        (line["table"], line["method"] or line["attack"], line["measure"]): line
        for line in csv.DictReader((tmp_path / "p.csv").read_text().splitlines())
    }
    blurred = rows["purifiers", "blur@1.5", "mse_adaptive"]
    assert [blurred[name] for name in ("value", "why", "verdict")] == [
        "", "not measured", "adaptive: not measured",
    ]  # fmt: skip
    assert rows["attacks", "pgd", "eps"]["value"] == "0.05"
    latex = command("purification", studied, "--latex").out
    assert "blur@1.5 & -- & 0.0273 & -- & 29 & 0.9 & 0.5 & 0 & 0.001 & 1 & adaptive: not" in latex
    assert latex.count(r"\begin{tabular}") == 2
    assert (
        r"uce & 0 $\pm$ 0 & 1 $\pm$ 0 & 0.6 $\pm$ 0 & "
        in command("erasing", studied, "--latex").out
    )
    for study, number in (("erasing", 2), ("purification", 3)):
        assert len(command(study, studied, "--json").json["tables"]) == number


def test_tables_and_sentences_are_printed_without_json(studied: Path, command: Command) -> None:
    text = command("purification", studied).out
    assert "MSE (adaptive attack)" in text
    assert "oneshot@20" in text
    text = command("erasing", studied).out
    assert "recovery" in text
    published, here = (
        next(line for line in text.splitlines() if line.startswith(name) and where in line).split()
        for name, where in (("Forget-Me-Not", "published"), ("abo", "here"))
    )
    assert published[1:] == ["published", "0.66", "13.78", "0.00496", "0.2732", "0.476"]
    assert here[1:] == ["here", "–", "–", "–", "–", "–"]
    assert "Not measured here: NudeNet (detector: nudenet), FID and KID (inception: FILE), " in text
    assert "The teacher draws the concept in 100 % of its samples" in text
