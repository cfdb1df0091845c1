"""A network that does not end in one linear layer: which jobs work with it, and which refuse it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from launcher.api import Kind
from tests.trueface.jobs.build import SIDE, a_draft, a_job, write_images, write_lists
from tests.trueface.models.build import untrained
from trueface.data.augmentations.steps import Window
from trueface.jobs import testing, training
from trueface.jobs.kinds import TEST, TRAIN, UNLEARN
from trueface.models import checkpoint
from trueface.models.detectors import build_detector
from trueface.models.logits import BackboneHeadSplit
from trueface.models.registry import SPECS, model_name
from trueface.prediction.heat_map import class_activation
from trueface.runtime import paths
from trueface.runtime.errors import JobError

NAME, DATA = "mesonet", "gan2:pre&real:pre"
PLACE = {"data_root": "data", "split_path": "splits"}
NETWORK = {"model": NAME, "weights": "none"}
REASON = f"needs a network that ends in one linear layer, but model {NAME} does not"


@pytest.fixture(autouse=True)
def _without_last_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECS._built, NAME, replace(SPECS[NAME], head=None))


@pytest.mark.parametrize(
    ("kind", "settings", "user"),
    [
        (TRAIN, {"freeze": True}, "freeze: true"),
        (TRAIN, {"solver": "ridge"}, "solver: ridge"),
        (TRAIN, {"dropout": 0.5}, "dropout: 0.5"),
        (TRAIN, {"features": True}, "features: true"),
        (UNLEARN, {"method": "exact"}, "method: exact"),
        (UNLEARN, {"method": "lau", "force": True}, "method: lau"),
        (UNLEARN, {"method": "relabel", "find": True}, "find: true"),
    ],
    ids=["freeze", "ridge", "dropout", "features", "exact", "lau", "find"],
)
def test_plan_refuses_what_works_on_features_or_on_the_last_layer(
    tmp_path: Path, kind: Kind, settings: dict[str, Any], user: str
) -> None:
    draft = a_draft(kind, tmp_path, PLACE | NETWORK | settings, model=f"{DATA}%50", data=DATA)
    draft = replace(draft, base=f"{DATA}%50") if kind is UNLEARN else draft
    assert [each for each in kind.refusals(draft, ()) if REASON in each] == [
        f"{DATA}%50: {user} {REASON}. Choose another model."
    ]


@pytest.mark.parametrize(
    ("of_base", "of_settings", "words"),
    [
        ({"model": NAME}, "slim18", REASON),
        ({"model": "slim18"}, NAME, ""),
        ({"model": "slim18"}, "tv/r3d_18", ""),
        ({"model": "slim18"}, "slim18", ""),
        ({"model": "lgrad"}, "slim18", "needs images of 256 by 256 pixels"),
    ],
)
def test_unlearning_is_planned_with_the_network_of_its_base(
    tmp_path: Path, of_base: dict[str, Any], of_settings: str, words: str
) -> None:
    side = {"resize_size": SIDE}
    base = f"{DATA}%50"
    maker = a_draft(TRAIN, tmp_path, PLACE | of_base, model=base, data=DATA)
    given = PLACE | side | {"model": of_settings, "method": "exact"}
    draft = a_draft(UNLEARN, tmp_path, given, model=f"{base}~exact", base=base, data=DATA)
    found = [
        each
        for each in UNLEARN.refusals(draft, [maker])
        if any(word in each for word in ("linear layer", "pixels", "clips"))
    ]
    assert len(found) == bool(words)
    assert all(words in each for each in found)
    network = of_base["model"]
    other = f"its base {base} has model {network}, not {of_settings}. Set model: {network}."
    assert (other in " ".join(UNLEARN.refusals(draft, [maker]))) == (network != of_settings)


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("tv/squeezenet1_1", {}, "has no linear layer"),
        ("ccvit", {"resize_size": 64}, "a multiple of 224 pixels, got 64. Set resize_size to 224"),
        ("ccvit", {"resize_size": 448, "patch_size": 200}, "a multiple of 224 pixels, got 200"),
        (
            "tv/vit_h_14",
            {"resize_size": 32},
            "a multiple of 14 pixels, got 32. Set resize_size to 28",
        ),
        ("dct", {"resize_size": 64}, "256 by 256 pixels, got 64 by 64. Set resize_size to 256"),
    ],
)
def test_plan_refuses_a_network_that_the_job_cannot_build(
    tmp_path: Path, name: str, settings: dict[str, Any], reason: str
) -> None:
    given = PLACE | {"model": name} | settings
    draft = a_draft(TRAIN, tmp_path, given, model=DATA, data=DATA)
    unlearning = a_draft(
        UNLEARN, tmp_path, given | {"method": "relabel"}, model=f"{DATA}%50~relabel", data=DATA
    )
    for each, kind in ((draft, TRAIN), (replace(unlearning, base=f"{DATA}%50"), UNLEARN)):
        (found,) = (text for text in kind.refusals(each, ()) if f": model {name} " in text)
        assert reason in found
    side = max(draft.settings["patch_size"], 0) or draft.settings["resize_size"]
    with pytest.raises(JobError, match=r"no linear layer|needs images|does not accept images of"):
        build_detector(name, weights="none", seed=1, side=side)


def test_plan_refuses_a_test_at_a_side_that_its_network_does_not_take(tmp_path: Path) -> None:
    network = PLACE | {"model": "ccvit", "resize_size": 224}
    maker = a_draft(TRAIN, tmp_path, network, model=DATA, data=DATA)
    for side, count in ((224, 0), (300, 1)):
        draft = a_draft(TEST, tmp_path, PLACE | {"resize_size": side}, model=DATA, data=DATA)
        found = [each for each in TEST.refusals(draft, [maker]) if "a multiple of 224" in each]
        assert len(found) == count


def test_plan_refuses_to_save_features_of_a_test(tmp_path: Path) -> None:
    maker = a_draft(TRAIN, tmp_path, PLACE | NETWORK, model=DATA, data=DATA)
    draft = a_draft(TEST, tmp_path, PLACE | {"features": True}, model=DATA, data=DATA)
    assert any(f"features: true {REASON}" in each for each in TEST.refusals(draft, [maker]))


def test_plan_refuses_exact_gradients_of_a_network_without_gradients(tmp_path: Path) -> None:
    draft = a_draft(TEST, tmp_path, PLACE | {"round_gradients": False}, model=DATA, data=DATA)
    for name, count in ((NAME, 1), ("lgrad", 0)):
        network = PLACE | {"model": name, "resize_size": 256}
        maker = a_draft(TRAIN, tmp_path, network, model=DATA, data=DATA)
        found = TEST.refusals(draft, [maker])
        assert len([each for each in found if "round_gradients: false" in each]) == count


def test_family_is_refused_by_the_name_of_the_network() -> None:
    with pytest.raises(ValueError, match=f"linear/NETWORK {REASON}"):
        model_name(f"linear/{NAME}")


def test_parts_that_work_on_the_last_layer_refuse_the_built_network() -> None:
    model = untrained(NAME)
    pixels = next(model.parameters()).new_zeros(1, 3, SIDE, SIDE)
    window = Window(top=0, left=0, height=SIDE, width=SIDE)
    for use in (
        lambda: model.head,
        lambda: model.feature_dim,
        lambda: model.replace_head(nn.Linear(1, 1)),
        lambda: model.forward_features(pixels),
        lambda: BackboneHeadSplit(model),
        lambda: untrained(NAME, dropout=0.5),
        lambda: class_activation(model, pixels[0], pixels[0], window),
    ):
        with pytest.raises(JobError, match="one linear layer"):
            use()


def test_network_trains_is_calibrated_tested_and_attacked(tmp_path: Path) -> None:
    keys = write_images(tmp_path, 12)
    write_lists(tmp_path / "splits", **dict.fromkeys(("train", "val", "test"), keys))
    size = {"resize_size": SIDE, "batch_size": 8}
    learning = PLACE | NETWORK | size | {"num_epochs": 1}
    training.train(a_job(tmp_path, "train", DATA, run="r", data=DATA, settings=learning))
    kept = checkpoint.load(paths.checkpoint(tmp_path / "runs" / "r" / DATA))
    assert "calibration" in kept.provenance
    attacked = PLACE | size | {"attack": "pgd4", "precision": "bf16"}
    tested = testing.test(a_job(tmp_path, "test", DATA, run="r", data=DATA, settings=attacked))
    assert {"evasion", "defamation"} & set(tested)
