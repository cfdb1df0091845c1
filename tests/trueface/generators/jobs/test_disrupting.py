"""The jobs `disrupt` and `restored`, with a purification between them, on small images."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from launcher.api import Draft, Job, JobError, model_folder_name
from tests.trueface.jobs.build import a_job
from trueface.generators.jobs.disrupt import disrupt
from trueface.generators.jobs.purification_kinds import DISRUPT, RESTORED
from trueface.generators.jobs.purify import purify
from trueface.generators.jobs.restoration import measure_restored_outputs
from trueface.generators.made_folders import image_names, load_image_batch, read_output_record
from trueface.generators.purification.study import table
from trueface.generators.translation.translator import (
    Generator,
    GeneratorShape,
    freeze_for_inference,
    load_translator,
    save_translator,
)
from trueface.runtime import paths
from trueface.runtime.errors import DataError, UnknownName

MODEL = "labelled:A"
DEFENDED = "labelled:A@adversarial=both"
LABELS = ("dark_hair", "warm_skin")
SIZE = 16
Entry = Callable[[Job], Mapping[str, Any]]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Leave torch's number of threads as it was: a job takes its own."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Project:
    """A project with ten small images of known attributes, and a generator by chance."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run = folder, folder / "runs" / "r"
        images = folder / "data" / "B"
        images.mkdir(parents=True)
        rng = np.random.default_rng(1)
        with (images / "attributes.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["image", *LABELS])
            for number in range(10):
                name = f"{number}.png"
                coarse = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
                picture = PIL.Image.fromarray(coarse).resize((SIZE, SIZE))
                picture.save(images / name)
                rows.writerow([name, number % 2, number // 5])
        torch.manual_seed(3)
        self.add_translator(MODEL)

    def add_translator(self, model: str, labels: tuple[str, ...] = LABELS) -> None:
        shape = GeneratorShape(len(labels), width=8, blocks=1)
        path = paths.checkpoint(self.run / model_folder_name(model))
        path.parent.mkdir(parents=True)
        save_translator(path, freeze_for_inference(Generator(shape), labels, SIZE, "cpu"), {})

    def do(self, entry: Entry, name: str, *, stop: Event | None = None, **settings: Any) -> Path:
        """Do a job; return its folder."""
        place = self.run / "made" / name
        outputs = (place, place / "made.json")
        facts: dict[str, Any] = {"settings": settings, "outputs": outputs, "stop": stop or Event()}
        entry(a_job(self.folder, entry.__name__, run="r", name=name, **facts))
        return place

    def chain(self, by: str, *, batch_size: int = 32, **attack: Any) -> dict[str, Any]:
        """Disrupt, purify and measure; return the metrics."""
        source = self.disrupted(batch_size=batch_size, **attack) if attack else "data/B"
        self.do(purify, "p", source=source, purifier=by, batch_size=batch_size, seed=7)
        settings: dict[str, Any] = {"source": "runs/r/made/p", "translator": MODEL}
        settings["batch_size"] = batch_size
        return read(self.do(measure_restored_outputs, "m", **settings) / "metrics.json")

    def disrupted(self, **attack: Any) -> str:
        """Disrupt the images; return their folder as the value of a setting."""
        self.do(disrupt, "d", source="data/B", translator=MODEL, **attack)
        return "runs/r/made/d"


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_disrupted_images_keep_names_and_stay_within_eps(project: Project) -> None:
    place = project.folder / project.disrupted(attack="fgsm", target="black", over="all")
    names = image_names(project.folder / "data" / "B")
    assert image_names(place) == names
    delta = load_image_batch(place, names) - load_image_batch(project.folder / "data" / "B", names)
    facts = read_output_record(place)
    assert facts["linf"] == pytest.approx(float(delta.abs().max()), abs=1e-6)
    assert facts["rms"] == pytest.approx(float(delta.square().mean().sqrt()), rel=1e-4)
    assert facts["eps_levels"] == 6
    assert float(delta.abs().max()) <= 0.05
    assert (facts["kind"], facts["source"], facts["images"]) == ("disrupt", "data/B", 10)


def test_purifying_clean_images_is_measured_without_grid(project: Project) -> None:
    metrics = project.chain("blur1")
    assert (metrics["attack"], metrics["adaptive"], metrics["eps"]) == ("", False, None)
    assert metrics["summary"]["mse"] > 0
    assert not (project.run / "made" / "m" / "grid.png").exists()
    (row,) = table(project.run, [("", "m")])
    assert row["price_clean"] == metrics["summary"]["mse"]
    assert row["mse"] is None


def test_unchanged_images_have_no_signal_to_noise_ratio(project: Project) -> None:
    assert project.chain("none")["summary"]["psnr"] is None


@pytest.mark.parametrize(("by", "is_adaptive"), [("blur1", True), ("median3", False)])
def test_attack_through_a_purifier_is_marked_adaptive_to_it(
    project: Project, by: str, is_adaptive: bool
) -> None:
    metrics = project.chain(by, attack="bim", target="away", steps=2, purifier="blur1")
    assert (metrics["adaptive"], metrics["through"]) == (is_adaptive, "blur1")


@pytest.mark.parametrize(
    ("attacked", "by", "adaptive", "through"),
    [
        (MODEL, "none", False, ""),
        (DEFENDED, "none", True, DEFENDED),
        (DEFENDED, "blur1", False, DEFENDED),
        ("labelled:A@seed=9", "none", False, "labelled:A@seed=9"),
    ],
)
def test_attack_knows_a_defended_generator_if_it_disrupts_it(
    project: Project, attacked: str, by: str, adaptive: bool, through: str
) -> None:
    for model in (DEFENDED, "labelled:A@seed=9"):
        project.add_translator(model)
    project.do(disrupt, "d", source="data/B", translator=attacked, steps=2)
    project.do(purify, "p", source="runs/r/made/d", purifier=by)
    given: dict[str, Any] = {"source": "runs/r/made/p", "translator": DEFENDED, "reference": MODEL}
    metrics = read(project.do(measure_restored_outputs, "m", **given) / "metrics.json")
    assert (metrics["adaptive"], metrics["through"]) == (adaptive, through)
    assert (metrics["translator"], metrics["reference"]) == (DEFENDED, MODEL)


def test_defended_generator_is_compared_with_itself_and_with_the_undefended_one(
    project: Project,
) -> None:
    project.add_translator(DEFENDED)
    undefended = project.chain("none", attack="bim", target="away", steps=2)
    given: dict[str, Any] = {"source": "runs/r/made/p", "translator": DEFENDED, "reference": MODEL}
    place = project.do(measure_restored_outputs, "m2", **given)
    metrics = read(place / "metrics.json")
    assert metrics["unpurified"] == undefended["unpurified"]
    made, original = (
        load_image_batch(project.folder / folder, image_names(project.folder / folder))
        for folder in ("runs/r/made/d", "data/B")
    )
    first, own = (
        load_translator(paths.checkpoint(project.run / model_folder_name(model)))
        for model in (MODEL, DEFENDED)
    )
    labels = torch.tensor([[number % 2, number // 5] for number in range(10)]).float()
    errors: dict[str, list[float]] = {"mse": [], "reference_mse": []}
    for at in range(len(LABELS)):
        flipped = labels.clone()
        flipped[:, at] = 1 - flipped[:, at]
        shown = own(made, flipped)
        for name, wanted in (("mse", own), ("reference_mse", first)):
            errors[name].append(float((shown - wanted(original, flipped)).square().mean()))
    for name, values in errors.items():
        assert metrics["summary"][name] == pytest.approx(sum(values) / len(values), rel=1e-4)
    assert metrics["summary"]["frechet"] > 10 * undefended["summary"]["frechet"]
    rows = {row["method"]: row for row in table(project.run, [("", "m"), ("", "m2")])}
    assert rows[DEFENDED]["mse"] == metrics["summary"]["mse"]
    assert rows["none"]["mse"] == undefended["summary"]["mse"]
    assert "reference_mse" not in rows["none"]


def test_reference_of_other_labels_or_of_itself_is_rejected(project: Project) -> None:
    project.add_translator(DEFENDED, ("dark_hair",))
    project.do(purify, "p", source="data/B", purifier="none")
    given: dict[str, Any] = {"source": "runs/r/made/p", "translator": MODEL, "reference": DEFENDED}
    with pytest.raises(
        JobError, match="dark_hair of 16 pixels, but labelled:A changes dark_hair, "
    ):
        project.do(measure_restored_outputs, "m", **given)
    refused = RESTORED.refusals(draft("restored", **(given | {"reference": MODEL})), ())
    assert "reference and translator are both labelled:A. Leave out reference" in refused[0]
    read_by = RESTORED.inputs(draft("restored", **given))
    assert "/p/runs/r/labelled:A@adversarial=both/checkpoints/best.pt" in map(
        str, (each.path for each in read_by)
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"size": 32}, "labelled:A has size 16, but labelled:A@adversarial=both has size 32."),
        ({"labels": "dark_hair"}, "has labels dark_hair,warm_skin, but labelled:A@adversarial=both has"),
        ({"labels": ""}, ""),  # all of the table
        ({"size": 32, "weights": "G.ckpt"}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_plan_refuses_a_reference_of_other_size_or_labels(
    changed: dict[str, Any], said: str
) -> None:
    given: dict[str, Any] = {"source": "p", "translator": DEFENDED, "reference": MODEL}
    trained = {"size": SIZE, "labels": ",".join(LABELS), "weights": ""}
    makers = [
        replace(
            draft("restored", source="p", translator=MODEL),
            kind="translator",
            model=model,
            settings=settings,
        )
        for model, settings in ((MODEL, trained), (DEFENDED, trained | changed))
    ]
    refused = "".join(RESTORED.refusals(draft("restored", **given), makers))
    assert said in refused
    assert bool(said) is bool(refused)


@pytest.mark.parametrize(
    ("translator", "reference", "warned"),
    [
        (DEFENDED, "", True),
        (DEFENDED, MODEL, False),
        (MODEL, "", False),
        ("of an earlier run", "", False),
        ("labelled:A@adversarial=off", "", False),
    ],
)
def test_plan_warns_of_a_defended_generator_without_reference(
    translator: str, reference: str, warned: bool
) -> None:
    given = draft("restored", source="p", translator=translator, reference=reference)
    warnings = [text for text in RESTORED.warnings(given) if "Write reference: MODEL" in text]
    assert bool(warnings) is warned


@pytest.mark.parametrize(
    ("place", "said"),
    [("runs/r/made/d/3.png", "Purify it again"), ("data/B/3.png", r"B has no image for 3\.png")],
)
def test_images_changed_or_deleted_after_purification_raise_an_error(
    project: Project, place: str, said: str
) -> None:
    project.chain("blur1", attack="random")
    path = project.folder / place
    path.unlink()
    if "made" in place:
        PIL.Image.new("RGB", (SIZE, SIZE)).save(path)
    with pytest.raises(DataError, match=said):
        project.do(measure_restored_outputs, "m", source="runs/r/made/p", translator=MODEL)


def test_folder_that_was_not_purified_is_rejected_as_source(project: Project) -> None:
    source = project.disrupted(attack="random")
    with pytest.raises(DataError, match="made by disrupt, not by purify"):
        project.do(measure_restored_outputs, "m", source=source, translator=MODEL)


def test_images_with_other_size_than_translator_raise_an_error(project: Project) -> None:
    PIL.Image.new("RGB", (24, 24)).save(project.folder / "data" / "B" / "3.png")
    with pytest.raises(DataError, match="24x24 pixels, expected 16x16"):
        project.disrupted(attack="fgsm")
    assert not (project.run / "made" / "d").exists()


def draft(kind: str, **settings: Any) -> Draft:
    settings_of = {"disrupt": DISRUPT, "restored": RESTORED}[kind].settings
    return Draft(
        kind=kind,
        run="r",
        run_folder=Path("/p/runs/r"),
        folder=Path("/p"),
        name="m@purifier=blur1",
        settings=settings_of.model_validate(settings).model_dump(mode="json"),
    )


def test_plan_lists_inputs_and_outputs_of_disruption() -> None:
    given = draft(
        "disrupt",
        source="data/B",
        translator=MODEL,
        purifier="oneshot10",
        diffuser="images:A",
        denoiser="noisy:A",  # this purifier has no use for it
    )
    assert [str(each.path) for each in DISRUPT.inputs(given)] == [
        "/p/data/B",
        "/p/runs/r/labelled:A/checkpoints/best.pt",
        "/p/runs/r/images:A/checkpoints/best.pt",
    ]
    assert [str(path) for path in DISRUPT.outputs(given)] == [
        "/p/runs/r/made/m@purifier=blur1",
        "/p/runs/r/made/m@purifier=blur1/made.json",
    ]
    assert DISRUPT.refusals(given, ()) == ()


def test_plan_rejects_jobs_without_required_model() -> None:
    given = draft("disrupt", source="data/B", translator=MODEL, purifier="oneshot10")
    assert "Give the ID of one, such as diffuser: images:A" in DISRUPT.refusals(given, ())[0]
    given = draft("restored", source="p", translator="", features="squeezenet")
    assert len(RESTORED.refusals(given, ())) == 2


def test_cut_file_of_outputs_of_originals_is_computed_again(project: Project) -> None:
    first = project.chain("blur1", attack="random")
    (kept,) = (project.run / "made" / ".outputs").iterdir()
    kept.write_bytes(b"cut")
    again = project.chain("blur1", attack="random")
    assert again["summary"] == first["summary"]


def test_outputs_of_the_undefended_generator_are_not_read_as_those_of_the_defended_one(
    project: Project,
) -> None:
    project.add_translator(DEFENDED)
    project.chain("blur1", attack="random")
    given: dict[str, Any] = {"source": "runs/r/made/p", "translator": DEFENDED}
    project.do(measure_restored_outputs, "m1", **given, reference=MODEL)
    after = read(project.do(measure_restored_outputs, "m2", **given) / "metrics.json")
    for made in (project.run / "made" / ".outputs").iterdir():
        made.unlink()
    assert after == read(project.do(measure_restored_outputs, "m3", **given) / "metrics.json")


def test_table_without_generator_label_raises_error_that_names_it(project: Project) -> None:
    table_of = project.folder / "data" / "B" / "attributes.csv"
    table_of.write_text(table_of.read_text().replace("warm_skin", "hat"))
    with pytest.raises(UnknownName, match="warm_skin"):
        project.disrupted(attack="fgsm")


def test_stopped_job_leaves_no_folder(project: Project) -> None:
    stop = Event()
    stop.set()
    with pytest.raises(JobError, match="stopped after 0 of 10 images"):
        project.do(disrupt, "d", stop=stop, source="data/B", translator=MODEL)
    assert not (project.run / "made" / "d").exists()
