"""Which jobs of a task file share features: by their settings, and by what makes their models."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from launcher.api import Plan
from launcher.experiments.planning.plan import SharedJobPlan
from tests.trueface.jobs.build import plan_text
from trueface.jobs.benchmark.kind import BENCHMARK
from trueface.jobs.feature_kind import FEATURES
from trueface.jobs.kinds import POISON, SAMPLE, TEST, TRAIN, UNLEARN

KINDS = (TRAIN, TEST, POISON, UNLEARN, SAMPLE, FEATURES, BENCHMARK)


HEAD = """
name: study
defaults:
  data_root: data
  split_path: splits
  model: mobilenet
  weights: weights.pth
  freeze: true
  num_epochs: 10
  flip_prob: 0.5
  augment_cycle: 4
  test: {resize_size: 256}
"""
STUDY = """
train:
  - {model: null, data: "gan2:pre", poison: [0, 20, 50]}
unlearn:
  - {model: poisoned, method: [retrain, exact]}
autotest: ["real:pre", "gan2:pre"]
"""
TWO = 'train: [{model: null, data: "gan2:pre", matrix: {%s}}]\n'


def a_plan(text: str, root: Path = Path("/lab"), **defaults: Any) -> Plan:
    lines = "".join(f"  {name}: {json.dumps(value)}\n" for name, value in defaults.items())
    kept = [line for line in HEAD.splitlines() if line.strip().partition(":")[0] not in defaults]
    head = "\n".join(kept) + "\n"
    return plan_text(f"{head}{lines}{text}", KINDS, root)


def shares(text: str, root: Path = Path("/lab"), **defaults: Any) -> dict[str, SharedJobPlan]:
    made = a_plan(text, root, **defaults)
    return {share.job.name: share for share in made.shares({job.name for job in made.jobs})}


def parts(share: SharedJobPlan) -> dict[tuple[str, str], int]:
    """Return the number of views that a job computes, by list (augmented ones marked) and images."""
    return {
        (part["split_list"] + "*" * bool(part["augmentation"]), part["images"]): part["views"]
        for part in cast("list[Any]", share.job.settings["parts"])
    }


def test_poison_study_computes_each_feature_once() -> None:
    shared = shares(STUDY)
    learned = "gan2:pre&real:pre"
    assert {name: parts(share) for name, share in shared.items()} == {
        "features/mobilenet/gan2:pre": {
            ("train*", learned): 4, ("val", learned): 1, ("test", "gan2:pre"): 1,
            ("train", learned): 1, ("test", learned): 1,
        },
        "features/mobilenet/real:pre": {("test", "real:pre"): 1},
    }  # fmt: skip
    jobs = {job.name for job in a_plan(STUDY).jobs if job.kind != "poison"}
    assert frozenset().union(*(share.users for share in shared.values())) == jobs
    savings = shared["features/mobilenet/gan2:pre"].savings
    trainings, unlearnings, tests = 3, 4, 7
    # only a retraining goes over augmented images, as a training does
    passes = trainings * (4 + 1) + unlearnings * 3 + 2 * 4 + tests
    assert (savings.passes, savings.saved) == (passes, passes - (4 + 1 + 1 + 1 + 1))


@pytest.mark.parametrize(
    "variants",
    ["model: [mobilenet, squeezenet]", "weights: [a.pth, b.pth]", "normalization: [half, model]",
     "precision: [fp32, bf16]", "resize_size: [64, 96]", "decode: [exact, scaled]",
     "channels_last: [true, false]", "freeze: [true, false]", "freeze_bn: [true, false]"],
)  # fmt: skip
def test_settings_that_change_features_are_not_shared(variants: str) -> None:
    assert shares(TWO % variants) == {}


@pytest.mark.parametrize("variants", ["augment_seed: [1, 2]", "flip_prob: [0.5, 0.25]"])
def test_validation_features_are_shared_despite_other_augmentation(variants: str) -> None:
    (share,) = shares(TWO % variants).values()
    assert parts(share) == {("val", "gan2:pre&real:pre"): 1}


def test_feature_job_knows_the_user_words() -> None:
    text = 'subsets: {mine: ["StyleGAN*"]}\n' + TWO.replace("gan2", "mine") % "lr: [0.1, 0.2]"
    (share,) = shares(text).values()
    assert share.job.name == "features/mobilenet/mine:pre"
    assert share.job.words.subsets == {"mine": ("StyleGAN*",)}


def test_random_weights_are_shared_for_equal_seeds() -> None:
    assert len(shares(TWO % "lr: [0.1, 0.2]", weights="none")) == 1
    assert shares(TWO % "seed: [1, 2]", weights="none") == {}


def test_single_frozen_training_has_no_feature_job() -> None:
    assert shares('train: [{model: null, data: "gan2:pre"}]\nautotest: ["gan1:pre"]\n') == {}


def test_trainable_network_has_no_feature_job() -> None:
    text = STUDY.replace("[retrain, exact]", "[retrain]")
    assert shares(text, freeze=False) == {}


def test_unaugmented_training_images_are_shared_with_unlearnings() -> None:
    shared = shares(STUDY, flip_prob=0, augment_cycle=0)
    views = parts(shared["features/mobilenet/gan2:pre"])
    assert views["train", "gan2:pre&real:pre"] == 1
    assert ("train*", "gan2:pre&real:pre") not in views


def test_frozen_fine_tuning_keeps_the_initial_backbone() -> None:
    tuned = """
train:
  - {model: null, data: "gan2:pre"}
  - {model: "gan2:pre", data: "gan1:pre"}
test:
  - {model: "gan2:pre", data: "gan3:pre"}
  - {model: "gan2:pre#gan1:pre", data: "gan3:pre"}
"""
    (share,) = shares(tuned).values()
    assert (share.job.name, share.job.base) == ("features/mobilenet/gan3:pre", None)
    assert share.job.settings["weights"] == "weights.pth"


def test_trained_backbone_is_shared_by_jobs_that_freeze_it() -> None:
    tuned = """
train:
  - {model: null, data: "gan2:pre", settings: {freeze: false}}
  - {model: "gan2:pre", data: "gan1:pre", matrix: {lr: [0.1, 0.2]}}
"""
    (share,) = shares(tuned).values()
    assert (share.job.name, share.job.base) == ("features/gan2:pre/gan1:pre", "gan2:pre")
    assert share.job.needs == ("train/gan2:pre",)
    assert share.savings.passes == 2 * (4 + 1)


def test_retraining_of_trainable_network_has_another_backbone() -> None:
    text = """
train: [{model: null, data: "gan2:pre", poison: [20], settings: {freeze: false}}]
unlearn: [{model: poisoned, method: [exact, scrub, retrain]}]
"""
    (share,) = shares(text).values()
    assert share.users == {"unlearn/gan2:pre%20~exact", "unlearn/gan2:pre%20~scrub"}
    assert share.job.base == "gan2:pre%20"


BENCHMARK_STUDY = """
matrix: {seed: [1, 2]}
train: [{model: null, data: "gan2:pre"}]
benchmark: [{test: ["gan2:pre", "gan3:pre"], corrupt: [none, jpeg50, noise4]}]
"""


def test_benchmark_has_one_feature_job_per_corruption() -> None:
    shared = shares(BENCHMARK_STUDY, benchmark={"resize_size": 256})
    learned, other = "features/mobilenet/gan2:pre", "features/mobilenet/gan3:pre"
    conditions = ["", "@corrupt=jpeg50", "@corrupt=noise4"]
    assert set(shared) == {name + each for name in (learned, other) for each in conditions}
    # clean images go with those of the trainings
    assert ("test", "gan2:pre") in parts(shared[learned])
    jpeg = shared[f"{other}@corrupt=jpeg50"]
    assert [part["corrupt"] for part in cast("list[Any]", jpeg.job.settings["parts"])] == ["jpeg50"]
    assert jpeg.users == {f"benchmark/gan2:pre@seed={seed}/gan3:pre" for seed in (1, 2)}
    assert (jpeg.savings.passes, jpeg.savings.saved) == (2, 1)


def test_statistics_without_a_network_share_features_whatever_the_seed() -> None:
    text = BENCHMARK_STUDY.replace('"gan2:pre"}]', '"gan2:pre", solver: ridge}]')
    shared = shares(text, model="dct8", weights="none", freeze=True, flip_prob=0, augment_cycle=0)
    assert "features/dct8/gan3:pre@corrupt=noise4" in shared
