"""The job that erases a concept: its files and rejections."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from launcher.api import Draft, Job, JobError, Json, UnknownName, read_json
from tests.trueface.generators.erasing.build import FEW, NAMES, small
from tests.trueface.jobs import build
from trueface.generators.diffusion.diffuser import load_diffuser, read_diffuser, save_diffuser
from trueface.generators.jobs.diffusion_kinds import ERASE
from trueface.generators.jobs.erase import erase, shorten_history
from trueface.runtime import paths
from trueface.runtime.errors import DataError

BASE = "classes:all"
TRAINING: dict[str, Json] = {
    "size": 4, "channels": 1, "network": "mlp", "widths": [16, 16], "embedding": 4, "num_steps": 3,
    "batch_size": 8, "data_root": "data",
}  # fmt: skip


def a_draft(folder: Path, method: str = "abo", /, **given: Any) -> Draft:
    steps = {} if method in {"uce", "retrain"} else FEW
    if method in {"ablate", "ablate-maps"}:
        steps = {name: value for name, value in FEW.items() if name != "refresh"}
    values = {"method": method, "concept": "concept", "anchor": "anchor", **steps, **given}
    return build.a_draft(ERASE, folder, values, model=f"{BASE}~{method}", base=BASE, data=BASE)


def a_job(draft: Draft, **more: Any) -> Job:
    return build.job_of(draft, ERASE, **more)


def with_teacher(folder: Path, **more: Any) -> Path:
    path = paths.checkpoint(a_draft(folder).model_folder(BASE))
    save_diffuser(path, small(**more), {"settings": dict(TRAINING)})
    return path


def with_images(folder: Path, *names: str) -> None:
    for at, name in enumerate(names):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(3):
            picture = PIL.Image.new("L", (4, 4), 40 * at + number)
            picture.save(folder / "data" / name / f"{number}.png")


@pytest.mark.parametrize("method", ["abo", "uce", "retrain"])
def test_job_writes_diffuser_and_cost(tmp_path: Path, method: str) -> None:
    with_teacher(tmp_path)
    with_images(tmp_path, *NAMES)
    draft = a_draft(tmp_path, method)
    result = erase(a_job(draft))
    assert all(path.is_file() for path in ERASE.outputs(draft))
    checkpoint, record = ERASE.outputs(draft)
    assert load_diffuser(checkpoint).class_names == NAMES
    source = read_diffuser(checkpoint).provenance
    assert (source["base"], source["method"]) == (BASE, method)
    assert source["training"] == TRAINING
    written = read_json(record)
    assert isinstance(written, dict)
    assert written["method"] == result["method"] == method
    changed = written["changed_parameters"]
    assert isinstance(changed, int)
    assert changed > 0
    assert bool(written["losses"]) == (method != "uce")


@pytest.mark.parametrize("concept", ["concept", "other"])
def test_second_concept_can_be_erased_unless_first_would_return(
    tmp_path: Path, concept: str
) -> None:
    teacher = with_teacher(tmp_path)
    with_images(tmp_path, *NAMES)
    draft = a_draft(tmp_path, "uce", concept=concept)
    erase(a_job(draft))
    teacher.write_bytes(ERASE.outputs(draft)[0].read_bytes())
    if concept == "concept":
        erase(a_job(a_draft(tmp_path, "retrain", anchor="")))  # knows how the first was trained
        return
    with pytest.raises(JobError, match="other was already erased from this diffuser"):
        erase(a_job(a_draft(tmp_path, "retrain")))


def test_stopped_erasing_leaves_no_files(tmp_path: Path) -> None:
    with_teacher(tmp_path)
    stop = threading.Event()
    stop.set()
    draft = a_draft(tmp_path)
    with pytest.raises(
        JobError, match="Nothing was written, and the next attempt starts from the beginning"
    ):
        erase(a_job(draft, stop=stop))
    assert not any(path.exists() for path in ERASE.outputs(draft))


@pytest.mark.parametrize(
    ("draft", "names", "facts", "said"),
    [
        (("abo", {"concept": "concpt"}), NAMES, {}, "Did you mean 'concept'"),
        (
            ("retrain", {}), ("anchor", "concept", "stranger"), {},
            "Set data_root to the folder of its training",
        ),
        (
            ("retrain", {}), NAMES, {"train_images_sha256": "another"},
            "differ from the training images of the diffuser",
        ),
    ],
    ids=["an unknown concept", "other classes", "other images"],
)  # fmt: skip
def test_concept_unknown_to_teacher_is_rejected(
    tmp_path: Path, draft: tuple[str, dict[str, Any]], names: tuple[str, ...],
    facts: dict[str, Json], said: str,
) -> None:  # fmt: skip
    save_diffuser(with_teacher(tmp_path), small(), {"settings": dict(TRAINING), **facts})
    with_images(tmp_path, *names)
    with pytest.raises((UnknownName, DataError), match=said):
        erase(a_job(a_draft(tmp_path, draft[0], **draft[1])))


def test_plan_reads_concepts_from_existing_data_folder(tmp_path: Path) -> None:
    draft = a_draft(tmp_path, concept="concpt", data_root="data")
    assert not ERASE.refusals(draft, ())  # no folder yet: the job reads the classes of the model
    with_images(tmp_path, *NAMES)
    draft = a_draft(tmp_path, concept="concpt", data_root="data")
    assert "Did you mean 'concept'" in ERASE.refusals(draft, ())[0]
    assert not ERASE.refusals(a_draft(tmp_path, data_root="data"), ())


def trained(folder: Path, /, **settings: Any) -> Draft:
    return Draft(
        kind="diffuser", run="study", run_folder=folder, folder=folder, model=BASE,
        settings={**TRAINING, **settings},
    )  # fmt: skip


def test_plan_rejects_erasing_that_contradicts_teacher_training(tmp_path: Path) -> None:
    draft = a_draft(tmp_path, "retrain")
    assert "cannot train it again" in ERASE.refusals(draft, [trained(tmp_path, weights="sd")])[0]
    without = trained(tmp_path, without="concept")
    assert "there is nothing to erase" in ERASE.refusals(draft, [without])[0]
    assert not ERASE.refusals(draft, [trained(tmp_path, without="", weights="")])
    small_noise = trained(tmp_path, t_max=300, noise_steps=1000)
    assert "t_max: 300 and cannot draw" in ERASE.refusals(a_draft(tmp_path), [small_noise])[0]
    assert not ERASE.refusals(draft, [small_noise])  # a training needs no samples


@pytest.mark.parametrize(
    ("method", "given", "what"),
    [("forget-me-not", {}, "forget-me-not"), ("abo", {"scope": "attention"}, "scope: attention")],
)
def test_plan_rejects_erasing_of_attention_from_class_model(
    tmp_path: Path, method: str, given: dict[str, Any], what: str
) -> None:
    draft = a_draft(tmp_path, method, **given)
    said = f"{BASE} draws classes, but {what} needs a text-to-image model"
    assert said in ERASE.refusals(draft, [trained(tmp_path, weights="")])[0]
    assert not ERASE.refusals(draft, [trained(tmp_path, weights="sd")])


def test_plan_rejects_guidance_of_teacher_without_null_token(tmp_path: Path) -> None:
    def refusals(method: str, drop: float | None, /, **given: Any) -> tuple[str, ...]:
        return ERASE.refusals(a_draft(tmp_path, method, **given), [trained(tmp_path, drop=drop)])

    assert "has no null token for guidance. abo needs one" in refusals("abo", 0)[0]
    assert "has no null token" in refusals("ablate", 0)[0]
    assert not refusals("ablate", 0, guidance=1)
    assert not refusals("uce", 0)
    assert not refusals("abo", None)
    assert not refusals("abo", 0.1)


def test_diffuser_without_classes_has_no_concept_to_erase(tmp_path: Path) -> None:
    draft = replace(a_draft(tmp_path), model="images:A~abo", base="images:A", data="images:A")
    assert "Train it on classes:all" in ERASE.refusals(draft, ())[0]


def test_plan_reads_images_only_for_retraining(tmp_path: Path) -> None:
    def read(method: str) -> list[str]:
        return [each.what for each in ERASE.inputs(a_draft(tmp_path, method, data_root="data"))]

    assert read("abo") == [f"the diffuser {BASE}"]
    assert read("retrain")[1:] == ["the folder of the diffuser's training images"]
    assert ERASE.outputs(a_draft(tmp_path))[1].name == "erasing.json"


def test_long_history_is_written_as_interval_means() -> None:
    rows = shorten_history([(step, float(step % 2)) for step in range(1, 401)])
    assert len(rows) == 100
    assert rows[0] == (4, 0.5)
    assert shorten_history([]) == []
