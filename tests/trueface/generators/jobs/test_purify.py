"""Purifications and denoisers as jobs."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.api import Draft, Job, Kind, Plan, Role, TaskFileError
from tests.trueface.generators.purification.build import normal, smooth_images
from tests.trueface.jobs import build
from trueface.generators.diffusion.diffuser import Diffuser, save_diffuser
from trueface.generators.diffusion.networks import NetworkShape, build_network
from trueface.generators.diffusion.schedule import make_schedule
from trueface.generators.jobs.diffusion_kinds import DIFFUSER
from trueface.generators.jobs.purification_kinds import DENOISER, PURIFY
from trueface.generators.jobs.purify import denoiser, purify
from trueface.generators.made_folders import (
    digest_of,
    image_names,
    load_image_batch,
    output_folder,
    read_output_record,
)
from trueface.generators.purification.registry import PurifySettings
from trueface.runtime import paths
from trueface.runtime.errors import DataError, JobError

SIDE = 16


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A project with twelve noisy images in two folders, and a small diffuser `images:A`."""
    clean = smooth_images(12, side=SIDE)
    names = [f"{'ab'[number % 2]}/{number}.png" for number in range(12)]
    with output_folder(tmp_path / "faces/A") as made:
        made.write(names, clean + 0.05 * normal(clean.shape))
    shape = NetworkShape(
        network="unet", size=SIDE, channels=3, classes=0, embedding=16, widths=(8, 16), unshuffle=2
    )
    network = build_network(shape, seed=1).eval()
    with torch.no_grad():  # a new one answers nothing at all
        for weight in network.parameters():
            weight.add_(normal(weight.shape), alpha=0.05)
    learned = Diffuser(
        network=network, schedule=make_schedule("linear"), t_max=200, size=SIDE, channels=3
    )
    folder = a_draft(PURIFY, tmp_path).model_folder("images:A")
    save_diffuser(paths.checkpoint(folder), learned, {})
    return tmp_path


def a_draft(kind: Kind, folder: Path, **settings: Any) -> Draft:
    if kind is DENOISER:
        given = {"data_root": "faces", **settings}
        return build.a_draft(kind, folder, given, model="noisy:A", data="noisy:A")
    given = {"source": "faces/A", "purifier": "none", **settings}
    return build.a_draft(kind, folder, given, name=f"purified@purifier={given['purifier']}")


def a_job(kind: Kind, folder: Path, stop: threading.Event | None = None, **settings: Any) -> Job:
    draft = a_draft(kind, folder, **settings)
    return build.job_of(draft, kind, stop=stop or threading.Event())


def run_purify(folder: Path, **settings: Any) -> Path:
    job = a_job(PURIFY, folder, **settings)
    purify(job)
    return Path(job.outputs[0])


def test_purified_folder_keeps_source_names_and_records_its_settings(lab: Path) -> None:
    made = run_purify(lab, purifier="jpeg75+oneshot20", diffuser="images:A")
    assert made == lab / "runs/study/made/purified@purifier=jpeg75+oneshot20"
    assert image_names(made) == image_names(lab / "faces/A")
    facts = read_output_record(made)
    assert facts["kind"] == "purify"
    assert facts["purifier"] == "jpeg@75+oneshot@20"
    assert facts["source"] == "faces/A"
    assert facts["source_digest"] == digest_of(lab / "faces/A", image_names(lab / "faces/A"))
    assert (facts["seed"], facts["images"], facts["net_calls"]) == (42, 12, 1)
    assert isinstance(facts["settings"], dict)
    assert facts["settings"]["diffuser"] == "images:A"
    for key in ("seconds", "cpu_seconds"):
        assert isinstance(facts[key], float)


def test_stopped_purification_leaves_no_files(lab: Path) -> None:
    stop = threading.Event()
    stop.set()
    job = a_job(PURIFY, lab, stop)
    with pytest.raises(JobError, match=r"stopped after 0 of 12 images\. Nothing was written"):
        purify(job)
    assert not Path(job.outputs[0]).exists()


def test_wrong_size_and_mixed_channels_are_rejected_and_grey_images_stay_grey(
    lab: Path,
) -> None:
    small = smooth_images(1, side=8)
    for name, images in (("grey", {"1.png": small[:, :1]}), ("small", {"1.png": small}),
                         ("mixed", {"1.png": small[:, :1], "2.png": small})):  # fmt: skip
        with output_folder(lab / name) as made:
            for file, image in images.items():
                made.write([file], image)
    with pytest.raises(DataError, match=r"1\.png has 8x8 pixels, expected 16x16\. Resize"):
        run_purify(lab, source="small", purifier="oneshot10", diffuser="images:A")
    with pytest.raises(DataError, match=r"2\.png has colours, but 1\.png is grey"):
        run_purify(lab, source="mixed", purifier="blur1")
    made_of_grey = run_purify(lab, source="grey", purifier="jpeg75+tv0.03+median3+blur1")
    assert load_image_batch(made_of_grey, ["1.png"], channels=1).shape == (1, 1, 8, 8)


def test_colour_images_raise_an_error_for_grey_model(lab: Path) -> None:
    given: dict[str, Any] = {"size": SIDE, "channels": 1, "num_steps": 1, "width": 4, "depth": 2}
    denoiser(a_job(DENOISER, lab, **given))
    with pytest.raises(DataError, match="has colours, but the models of dae were trained on grey"):
        run_purify(lab, purifier="dae", denoiser="noisy:A")
    both = {"diffuser": "images:A", "denoiser": "noisy:A"}
    with pytest.raises(JobError, match="the diffuser has 3 channels, but the denoiser has 1"):
        run_purify(lab, purifier="dae+oneshot10", **both)


def test_inputs_are_the_folder_and_the_required_models(lab: Path) -> None:
    both = {"diffuser": "images:A", "denoiser": "noisy:A"}
    draft = a_draft(PURIFY, lab, purifier="jpeg75", **both)
    assert [each.path for each in PURIFY.inputs(draft)] == [lab / "faces/A"]
    draft = a_draft(PURIFY, lab, purifier="dae+oneshot10", **both)
    assert [each.path for each in PURIFY.inputs(draft)] == [
        lab / "faces/A",
        paths.checkpoint(draft.model_folder("noisy:A")),
        paths.checkpoint(draft.model_folder("images:A")),
    ]
    folder = lab / "runs/study/made/purified@purifier=dae+oneshot10"
    assert PURIFY.outputs(draft) == (folder, folder / "made.json")
    assert PURIFY.role is Role.FOLDER


def test_unused_model_is_not_part_of_the_hash() -> None:
    def decisive(**given: Any) -> dict[str, Any]:
        settings = PurifySettings.model_validate({"source": "x", **given})
        return PurifySettings.decisive(settings.model_dump(mode="json"))

    assert decisive(purifier="jpeg75", diffuser="a:b") == decisive(purifier="jpeg75")
    assert decisive(purifier="ddpm10", diffuser="a:b") != decisive(purifier="ddpm10")
    assert decisive(purifier="none", batch_size=1) == decisive(purifier="none")
    assert decisive(purifier="jpeg075") == decisive(purifier="jpeg75")


def model_draft(kind: str, model: str = "images:A", **settings: Any) -> Draft:
    return Draft(
        kind=kind, run="study", run_folder=Path(), folder=Path(), model=model, settings=settings
    )


def test_untrained_step_is_rejected_at_planning_or_in_job(lab: Path) -> None:
    draft = a_draft(PURIFY, lab, purifier="diffpure300", diffuser="images:A")
    (reason,) = PURIFY.refusals(draft, (model_draft("diffuser", t_max=200),))
    assert "t 300 is too large: images:A was trained up to t 200" in reason
    assert PURIFY.refusals(draft, ()) == ()
    with pytest.raises(JobError, match="t 300 is too large: images:A was trained up to t 200"):
        run_purify(lab, purifier="diffpure300", diffuser="images:A")


@pytest.mark.parametrize(
    ("learned", "t"),
    [({"t_max": 0, "noise_steps": 200}, 200), ({"t_max": 50, "noise_steps": 200}, 50)],
)
def test_limit_without_t_max_is_last_noise_step(lab: Path, learned: dict[str, Any], t: int) -> None:
    maker, imported = (
        model_draft("diffuser", **learned, **more) for more in ({}, {"weights": "sd"})
    )
    within, beyond = (
        a_draft(PURIFY, lab, purifier=f"ddpm{step}", diffuser="images:A") for step in (t, t + 1)
    )
    assert PURIFY.refusals(within, (maker,)) == ()
    assert len(PURIFY.refusals(beyond, (maker,))) == 1
    assert PURIFY.refusals(beyond, (imported,)) == ()


def test_plan_rejects_model_of_another_kind(lab: Path) -> None:
    draft = a_draft(PURIFY, lab, purifier="oneshot10", diffuser="noisy:A")
    (reason,) = PURIFY.refusals(draft, (model_draft("denoiser", "noisy:A"),))
    assert "diffuser: noisy:A is a model of denoiser. Give a model of diffuser or" in reason


def test_plan_checks_steps_of_diffuser_from_another_section(tmp_path: Path) -> None:
    (tmp_path / "faces/A").mkdir(parents=True)
    text = """
name: study
diffuser: [{model: null, data: "images:A", data_root: faces, t_max: 20, num_steps: 1}]
purify: [{source: faces/A, diffuser: "images:A", purifier: PURIFIER}]
"""

    def planned(purifier: str) -> Plan:
        return build.plan_text(text.replace("PURIFIER", purifier), (DIFFUSER, PURIFY), tmp_path)

    first, second = planned("ddpm20").jobs
    assert second.needs == (first.name,)
    assert planned("jpeg75").jobs[1].needs == ()
    with pytest.raises(TaskFileError, match="t 21 is too large: images:A was trained up to t 20"):
        planned("ddpm21")


def test_denoiser_is_trained_and_purifies(lab: Path) -> None:
    given: dict[str, Any] = {"size": SIDE, "num_steps": 5, "width": 4, "depth": 2}
    result = denoiser(a_job(DENOISER, lab, **given))
    assert result["images"] == 12
    draft = a_draft(DENOISER, lab, **given)
    assert all(path.is_file() for path in DENOISER.outputs(draft))
    assert not paths.resume(draft.model_folder("noisy:A")).exists()
    assert [each.path for each in DENOISER.inputs(draft)] == [lab / "faces/A"]
    made = run_purify(lab, purifier="dae", denoiser="noisy:A")
    assert read_output_record(made)["net_calls"] == 1
