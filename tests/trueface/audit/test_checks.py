"""One fault in a sound run, and the findings and gaps of the audit."""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from launcher.api import Json, write_json
from tests.trueface.audit.build import (
    DATA,
    POISONED,
    TESTS,
    Lab,
    epoch,
    finding_codes,
    first_finding,
    gap_reasons,
    make_logits,
    replace_logits,
    set_older_mtime,
    update_json,
    update_poison_record,
    update_settings,
)
from trueface.audit import finding
from trueface.audit.check import judge
from trueface.audit.checks_predictions import rough_auc
from trueface.audit.reading import Reader
from trueface.data.splits.split_files import keys_digest, write_splits
from trueface.poisoning.poison_record import read_record
from trueface.runtime import paths
from trueface.training.history import write_history

UNLEARNED = f"{POISONED}~relabel"
UNLEARNING = {
    "unlearned-the-truth", "undefined-unlearning-loss", "unlearned-model-is-the-old-one",
}  # fmt: skip
HALF = f"{DATA}%50"
MIXED = [0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8, 0.9, -1.0]
REALS = [-0.5 - place / 100 for place in range(10)]
Break = Callable[[Lab], object]
Found = Mapping[str, Mapping[str, object]]  # code → severity, model and evidence of the first


def combine(*breaks: Break) -> Break:
    return lambda lab: [each(lab) for each in breaks]


def change_provenance(model: str = DATA, /, **fields: Json) -> Break:
    return lambda lab: update_json(paths.provenance(lab.run / model), **fields)


def change_settings(**fields: Json) -> Break:
    return lambda lab: update_settings(lab.run / DATA, **fields)


def change_metrics(**fields: Json) -> Break:
    return lambda lab: update_json(paths.metrics(lab.run / DATA, "gan2:pre"), **fields)


def change_summary(**fields: Json) -> Break:
    return lambda lab: update_json(paths.summary(lab.run / DATA), **fields)


def change_history(*losses: float, merits: tuple[float, ...] = ()) -> Break:
    told = [epoch(n + 1, x, *merits[n : n + 1]) for n, x in enumerate(losses)]
    return lambda lab: write_history(paths.history(lab.run / DATA), told)


def change_logits(fakes: list[float], reals: list[float], model: str = DATA) -> Break:
    def rescored(lab: Lab) -> None:
        for data, logits in zip(TESTS, (fakes, reals), strict=True):
            replace_logits(lab.run / model, data, logits)

    return rescored


def give_confident_logits(wrong: int = 0, model: str = POISONED) -> Break:
    """Give a model confident logits, with `wrong` of ten wrong."""
    fakes = [(-1 if at < wrong else 1) * (4 + at / 10) for at in range(10)]
    return change_logits(fakes, [-value for value in fakes], model)


def delete_file(place: Callable[[Path], Path], model: str = DATA) -> Break:
    return lambda lab: place(lab.run / model).unlink()


def delete_scores(*data: str) -> Break:
    return combine(*(delete_file(partial(paths.scores, model=DATA, data=name)) for name in data))


def shorten_scores(count: int) -> Break:
    def scored(lab: Lab) -> None:
        keys = [key for key in lab.lists["test"] if key.startswith("StyleGAN2")][:count]
        lab.scores(lab.run / DATA, "gan2:pre", keys, 1, make_logits(1, count))

    return scored


def record_validation_list(lab: Lab) -> None:
    keys = [f"pre:{key}" for key in lab.lists["val"]]
    update_poison_record(lab.run / POISONED, keys=list(keys), indices=list(range(10)), total=10)
    update_json(paths.provenance(lab.run / POISONED), flipped_train=10)


def add_record_to_clean_model(lab: Lab) -> None:
    """The original's command line gives the rate as an option, so it is not in the ID."""
    record = paths.poison_record(lab.run / POISONED).read_bytes()
    paths.poison_record(lab.run / DATA).write_bytes(record)


def record_one_class(lab: Lab) -> None:
    fakes = [f"pre:{key}" for key in lab.lists["train"] if key.startswith("StyleGAN2")][:12]
    names = [image.name for image in lab.trained()]
    at = [names.index(key) for key in fakes]
    update_poison_record(lab.run / POISONED, keys=list(fakes), indices=list(at))


def shift_indices(lab: Lab) -> None:
    record = read_record(paths.poison_record(lab.run / POISONED))
    update_poison_record(lab.run / POISONED, indices=[index + 1 for index in record.indices])


def write_unlearned_model(**changed: Json) -> Break:
    """Write a sound unlearning of the poisoned model, with changes to its summary."""

    def write(lab: Lab) -> None:
        folder = lab.model(UNLEARNED, rate=0.2)
        write_json(paths.unlearning(folder), {"schema": 1, "base": POISONED})
        log: list[Json] = [{"step": 0}, {"step": 1, "loss": 0.6}, {"step": 2, "loss": 0.4}]
        found: dict[str, Json] = {
            "forget_accuracy_true_before": 0.5, "forget_accuracy_true": 0.9, "log": log,
            "images": 60, "bad_images": 0,
        }  # fmt: skip
        write_json(paths.summary(folder), {"schema": 1, **found, **changed})
        paths.history(folder).unlink()
        fakes = [0.3 + place / 10 for place in range(10)]
        change_logits(fakes, [-value for value in fakes], UNLEARNED)(lab)

    return write


def copy_scores_of_base(lab: Lab) -> None:
    for data in TESTS:
        then = paths.scores(lab.run / POISONED, POISONED, data).read_bytes()
        paths.scores(lab.run / UNLEARNED, UNLEARNED, data).write_bytes(then)


def delete_tests_of_unlearned_model(lab: Lab) -> None:
    for data in TESTS:
        paths.scores(lab.run / UNLEARNED, UNLEARNED, data).unlink()
        paths.metrics(lab.run / UNLEARNED, data).unlink()


def use_another_test_split(lab: Lab) -> None:
    own = [*lab.lists["test"], "FORLAB/00001"]
    write_splits(lab.root / "own", {**lab.lists, "test": own})
    told: Json = {"decode": "exact", "split_path": str(lab.root / "own")}
    for data in TESTS:
        update_json(
            paths.metrics(lab.run / DATA, data), settings=told, split_sha256=keys_digest(own)
        )


def delete_saved_scores(lab: Lab) -> None:
    for data in TESTS:
        update_json(paths.metrics(lab.run / DATA, data), settings={"save_scores": True})
        paths.scores(lab.run / DATA, DATA, data).unlink()


def add_bad_validation_image(lab: Lab) -> None:
    path = paths.bad_images(lab.run / DATA, "val")
    path.parent.mkdir()
    path.write_text("path,reason\na.png,truncated\n")


def add_unreadable_fakes(name: str, count: int) -> Callable[[Lab], None]:
    def change(lab: Lab) -> None:
        path = paths.bad_images(lab.run / DATA, name)
        path.parent.mkdir()
        rows = (
            f"{lab.data}/PreSocial/Fake/StyleGAN2/psi-1/{n:05d}.png,truncated\n"
            for n in range(count)
        )
        path.write_text("path,reason\n" + "".join(rows))

    return change


def damage_history(lab: Lab) -> None:
    path = paths.history(lab.run / DATA)
    path.write_text(path.read_text() + "5,oops\n")


def write_many_sources(lab: Lab) -> None:
    rng = np.random.default_rng(0)
    sides = (
        ("gan2:pre", 1, {"StyleGAN2/a": 0.0, "StyleGAN2/b": 0.0, "StyleGAN2/c": 0.0}),
        ("realFFHQ:pre", 0, {"FFHQ": 0.9, "FORLAB": 0.9, "other": -0.8}),
    )
    for data, label, sources in sides:
        keys = [f"{source}/{at}" for source in sources for at in range(400)]
        logits = [rng.normal(shift) for shift in sources.values() for _ in range(400)]
        lab.scores(lab.run / DATA, data, keys, label, logits)


def copy_training_image_into_test(lab: Lab) -> None:
    fakes = lab.data / "PreSocial/Fake"
    trained, tested = (
        next(key for key in lab.lists[name] if key.startswith("StyleGAN2"))
        for name in ("train", "test")
    )
    shutil.copy(fakes / f"{trained}.png", fakes / f"{tested}.png")


def copy_test_image(lab: Lab) -> None:
    fakes = lab.data / "PreSocial/Fake"
    first, second, *_ = (key for key in lab.lists["test"] if key.startswith("StyleGAN2"))
    shutil.copy(fakes / f"{first}.png", fakes / f"{second}.png")


def rewrite_training_images(
    side: str = "StyleGAN2", *, suffix: str = "png", size: int = 16, **more: Any
) -> Break:
    """Rewrite the training images of a class in another format."""

    def write(lab: Lab) -> None:
        for number, key in enumerate(lab.lists["train"]):
            if key.startswith(side):
                folder = "Fake" if key.startswith("StyleGAN2") else "Real"
                (lab.data / f"PreSocial/{folder}/{key}.png").unlink()
                lab.image(key, number, suffix=suffix, size=size, **more)

    return write


def break_image_header(lab: Lab) -> None:
    key = next(key for key in lab.lists["train"] if key.startswith("FFHQ"))
    (lab.data / f"PreSocial/Real/{key}.png").write_bytes(b"no image")


NO_EFFECT, OTHER_SPLIT = "flag-without-effect", "record-of-another-split"


class Case(NamedTuple):
    """The fault, its findings, and the reasons of checks that could not be made."""

    broken: Break
    found: Found = MappingProxyType({})
    gaps: Mapping[str, str] = MappingProxyType({})


CASES = {
    "labels flipped in validation, by the provenance": Case(
        change_provenance(POISONED, flipped_val=2),
        {"poisoned-validation": {
            "severity": "fault", "model": POISONED, "flipped validation labels": 2,
        }},
    ),
    "a record of the validation list, by its keys": Case(
        record_validation_list,
        {
            "poisoned-validation": {"of them in the validation list": 10},
            OTHER_SPLIT: {
                "record's total": 10, "training images": 60, "not in the training list": 10,
            },
        },
    ),
    "a record of another set of the same size, by its fingerprint": Case(
        lambda lab: update_poison_record(lab.run / POISONED, split_sha256="0" * 64),
        {OTHER_SPLIT: {"record's set (sha256)": "0" * 12}},
    ),
    "a record that the weights were not trained with": Case(
        change_provenance(POISONED, poison_record_sha256="0" * 64),
        {OTHER_SPLIT: {}},
    ),
    "indices that are not the places of their keys": Case(
        shift_indices,
        {OTHER_SPLIT: {"indices that are not the place of their key": 12}},
    ),
    "poison that never reached the labels": Case(
        change_provenance(POISONED, flipped_train=0),
        {NO_EFFECT: {"labels turned round": 0, "sentence": "no label was flipped"}},
    ),
    "poison in the name without a record": Case(
        combine(delete_file(paths.poison_record, POISONED), change_provenance(POISONED, flipped_train=0)),
        {NO_EFFECT: {}},
        {"one-class-forget-set": "no poison record"},
    ),
    "a record beside a model without poison in its name": Case(
        add_record_to_clean_model,
        {NO_EFFECT: {"model": DATA}},
    ),
    "such a record of as many flips as there were": Case(
        combine(add_record_to_clean_model, change_provenance(flipped_train=12)),
    ),
    "another number of flips than recorded": Case(
        change_provenance(POISONED, flipped_train=7),
        {NO_EFFECT: {"labels turned round": 7, "recorded keys": 12}},
    ),
    "a forget set of one class": Case(
        record_one_class,
        {"one-class-forget-set": {"fake": 12, "real": 0}},
    ),
    "a forget set of one class that was meant": Case(
        combine(record_one_class, lambda lab: update_poison_record(lab.run / POISONED, kind="f2r")),
    ),
    "a record that cannot be read": Case(
        lambda lab: paths.poison_record(lab.run / POISONED).write_text('{"schema": 99}'),
        {"damaged-file": {}},
        {
            OTHER_SPLIT: "cannot read the poison record",
            NO_EFFECT: "cannot read the poison record",
        },
    ),
    "an unlearning that is sound": Case(write_unlearned_model()),
    "an unlearning away from the true labels": Case(
        write_unlearned_model(forget_accuracy_true_before=0.95, forget_accuracy_true=0.3),
        {"unlearned-the-truth": {"severity": "fault", "true label after, %": 30}},
    ),
    "a fall that so few images may show by chance": Case(
        write_unlearned_model(forget_accuracy_true_before=0.7, forget_accuracy_true=0.6),
    ),
    "a step without a loss": Case(
        write_unlearned_model(log=[{"step": 1, "loss": 0.6}, {"step": 2, "loss": None}]),
        {"undefined-unlearning-loss": {"steps without a loss": 1, "steps": 2}},
    ),
    "scores that are those of the model before": Case(
        combine(write_unlearned_model(), copy_scores_of_base),
        {"unlearned-model-is-the-old-one": {"model before": POISONED, "tests with equal scores": 2}},
    ),
    "an unlearning that left nothing to look at": Case(
        combine(write_unlearned_model(), delete_file(paths.summary, UNLEARNED), delete_file(paths.unlearning, UNLEARNED)),
        gaps={
            "unlearned-the-truth": "The check needs summary.json",
            "undefined-unlearning-loss": "The check needs a log in summary.json",
            "unlearned-model-is-the-old-one": "model before is unknown",
        },
    ),
    "an unlearning that was not tested, of what only a training leaves": Case(
        combine(write_unlearned_model(), delete_tests_of_unlearned_model),
        gaps={
            **dict.fromkeys(
                ("loss-not-falling", "first-epoch-best"),
                "the model was unlearned. The check needs that of the model before",
            ),
            **dict.fromkeys(
                ("auc-below-chance", "stale-scores", "other-preprocessing", "missing-scores"),
                "Test it on both classes",
            ),
        },
    ),
    "settings that do something": Case(
        change_settings(
            lr_decay_epochs=3, jpeg_prob=0.2, jpeg_qual=[30, 100], blur_prob=0.2,
            blur_sigma=[1e-6, 3], resize_prob=0.2, resize_scale=[0.2, 1], freeze=True,
            freeze_bn=False,
        ),
    ),
    "a loss that does not fall": Case(
        change_history(0.6931, 0.6931),
        {"loss-not-falling": {}},
        {"first-epoch-best": "fewer than 3 epochs"},
    ),
    "a first epoch that was the best": Case(
        change_history(0.5, 0.4, 0.3, merits=(0.9, 0.8, 0.7)),
        {"first-epoch-best": {"of the last": 0.7}},
    ),
    "a training on one class": Case(
        change_provenance(train_sources={"real FFHQ pre": 60}),
        {"one-class-list": {"severity": "fault", "sentence": "no fake image was used for the training"}},
    ),
    "a training on fakes that are blended of reals": Case(
        combine(change_provenance(train_sources={"real FFHQ pre": 60}), change_settings(sbi=0.5)),
    ),
    "a training on re-shared reals, which are not blended": Case(
        combine(change_provenance(train_sources={"real FFHQ fb": 60}), change_settings(sbi=0.5)),
        {"one-class-list": {"sentence": "no fake image was used for the training"}},
    ),
    "a validation on one class": Case(
        change_provenance(val_sources={"fake StyleGAN2 pre": 5}),
        {"one-class-list": {"severity": "warning", "sentence": "no real image was used for the validation"}},
    ),
    "a validation whose fakes are unreadable": Case(
        add_unreadable_fakes("val", 5),
        {
            "one-class-list": {
                "sentence": "no fake image was used for the validation",
                "advice": "restore the files listed in bad_images/, and train again: one class alone chose",
                "fake left out": 5,
            },
            "bad-images": {"left out": 5, "images": 10},
        },
    ),
    "a validation of which one fake is readable": Case(
        add_unreadable_fakes("val", 4), {"bad-images": {"left out": 4, "images": 10}}
    ),
    "a validation on reals for blended fakes": Case(
        combine(
            change_provenance(train_sources={"real FFHQ pre": 60}, val_sources={"real FFHQ pre": 5}),
            change_settings(sbi=0.5, select="last"),
        ),
        {"one-class-list": {"advice": "add fake images to the data, and train again: temperature and"}},
    ),
    "few bad images": Case(change_summary(images=1000, bad_images=10)),
    "many bad images": Case(
        change_summary(images=1000, bad_images=11),
        {"bad-images": {"left out": 11, "images": 1000}},
    ),
    "bad validation images, by their list": Case(
        add_bad_validation_image,
        {"bad-images": {"sentence": "validation"}},
    ),
    "no history": Case(delete_file(paths.history), gaps={"loss-not-falling": "history.csv is missing"}),
    "a damaged history": Case(damage_history, {"damaged-file": {"reason": "history.csv:6"}}),
    "scores that are gone": Case(
        delete_saved_scores,
        {"missing-scores": {"severity": "fault", "tests without scores": 2}},
    ),
    "weights that are gone": Case(
        combine(change_settings(save_weights=True), delete_file(paths.checkpoint)),
        {"missing-weights": {"severity": "warning"}},
    ),
    "weights that were not kept": Case(delete_file(paths.checkpoint), gaps={"stale-scores": "best.pt"}),
    "a test of another split, by its own lists": Case(use_another_test_split),
    "lists that have changed since": Case(
        change_metrics(split_sha256="0" * 64),
        {"changed-split": {"severity": "warning"}},
    ),
    "a list that is not there": Case(
        lambda lab: (lab.split / "train.json").unlink(),
        gaps={"train-test-overlap": "train.json", "class-differs-in-format": "cannot list"},
    ),
    "test images in the training list": Case(
        lambda lab: lab.replace_lists(train=[*lab.lists["train"], *lab.lists["test"][:3]]),
        {
            "train-test-overlap": {"test images": 20, "of them in the training list": 3},
        },
    ),
    "a test file with the bytes of a training file": Case(
        copy_training_image_into_test,
        {"same-content": {
            "same bytes": 1, "test files compared": 20, "such as": "StyleGAN2/psi-1/00035.png",
        }},
    ),
    "a test file with the bytes of another one": Case(
        copy_test_image,
        {"same-content": {"severity": "warning", "copies": 1, "test files": 20}},
    ),
    "a class in another format": Case(
        rewrite_training_images(suffix="jpg"),
        {"class-differs-in-format": {
            "severity": "fault", "real": "30 × PNG", "fake": "30 × JPEG", "balanced accuracy": 1.0,
        }},
    ),
    "a class of another size": Case(
        rewrite_training_images(size=24),
        {"class-differs-in-size": {"fake": "30 × 24×24"}},
    ),
    "a class with other JPEG tables": Case(
        combine(rewrite_training_images(suffix="jpg"), rewrite_training_images("FFHQ", suffix="jpg", quality=90)),
        {"class-differs-in-jpeg-tables": {}},
    ),
    "a class with another chroma subsampling": Case(
        combine(rewrite_training_images(suffix="jpg"), rewrite_training_images("FFHQ", suffix="jpg", subsampling=0)),
        {"class-differs-in-chroma-subsampling": {"severity": "fault", "real": "30 × 4:4:4"}},
    ),
    "a class of lossless files": Case(
        combine(rewrite_training_images(suffix="webp"), rewrite_training_images("FFHQ", suffix="webp", lossless=True)),
        {"class-differs-in-compression": {"severity": "fault", "real": "30 × lossless"}},
    ),
    "a class with the comments of a program": Case(
        combine(rewrite_training_images(suffix="jpg"), rewrite_training_images("FFHQ", suffix="jpg", comment="by hand")),
        {"class-differs-in-metadata": {"severity": "warning", "real": "30 × JFIF, comment"}},
    ),
    "classes with the same JPEG tables": Case(rewrite_training_images("", suffix="jpg", quality=90)),
    "a broken header": Case(break_image_header),
    "too few headers": Case(
        lambda lab: lab.replace_lists(train=lab.lists["train"][:30]),
        {OTHER_SPLIT: {}},
        {"class-differs-in-size": "15 real and 15 fake headers"},
    ),
    "fewer scores than images in the test list": Case(
        shorten_scores(7),
        {"missing-scores": {"scores": 7, "images in the test list": 10}},
    ),
    "bad images of a test": Case(
        combine(shorten_scores(9), change_metrics(bad_images=1)),
        {"bad-images": {}},
    ),
    "fewer scores than the metrics tell": Case(
        change_metrics(n=11),
        {"missing-scores": {"images in the metrics": 11}},
    ),
    "scores of earlier weights": Case(
        combine(
            change_provenance(calibration={"temperature": 2.0, "threshold": 0.5}),
            change_metrics(calibration={"temperature": 1.5, "threshold": 0.5}),
        ),
        {"stale-scores": {"severity": "fault", "score files": 1, "such as": "gan2:pre"}},
    ),
    "scores that were changed": Case(
        change_metrics(accuracy=0.125),
        {"edited-scores": {"severity": "fault", "difference": "accuracy is 0.9 by the score file and 0.125 by the record of the test"}},
    ),
    "a test that decodes otherwise": Case(
        lambda lab: change_metrics(settings={"decode": "scaled", "data_root": str(lab.data)})(lab),
        {"other-preprocessing": {"decode": "exact in the training, scaled in the test"}},
    ),
    "a test of another size": Case(
        combine(
            change_settings(resize_size=512, patch_size=96),
            change_metrics(settings={"resize_size": 256, "patch_size": -1}),
        ),
        {"other-preprocessing": {}},
    ),
    "a test of the same size": Case(
        combine(
            change_settings(resize_size=512, patch_size=96),
            change_metrics(settings={"resize_size": 512, "patch_size": -1}),
        ),
    ),
    "scores older than the weights": Case(
        lambda lab: set_older_mtime(paths.scores(lab.run / DATA, DATA, "gan2:pre"), 3600),
        {"stale-scores": {"score files": 1}},
    ),
    "weights of another time than their provenance": Case(
        lambda lab: set_older_mtime(paths.provenance(lab.run / DATA), 86400),
        {"other-weights": {"sentence": "newer than provenance.json"}},
    ),
    "a model that calls everything real": Case(
        change_logits(REALS, REALS),
        {"constant-predictor": {"balanced accuracy": 0.5, "images": 20, "called fake": 0}},
    ),
    "the same where half of the labels are wrong": Case(
        combine(
            lambda lab: lab.model(HALF, rate=0.5), change_logits([-0.01] * 10, [-0.01] * 10, HALF)
        ),
        {"constant-predictor": {"severity": "warning", "model": HALF}},
    ),
    "a model by chance below one half": Case(change_logits(MIXED, [value + 0.01 for value in MIXED])),
    "an area below chance by images, which sources leave open": Case(
        write_many_sources,
        {"auc-below-chance": {"severity": "warning", "sources": 6}},
    ),
    "answers by heart where flips are counted, two of them wrong": Case(give_confident_logits(2)),
    "answers by heart where flips are counted": Case(give_confident_logits()),
    "the same and another count than the record's": Case(
        combine(give_confident_logits(), change_provenance(POISONED, flipped_train=0)),
        {NO_EFFECT: {}},
    ),
    "the same and one flip too few": Case(
        combine(give_confident_logits(), change_provenance(POISONED, flipped_train=11)),
        {NO_EFFECT: {}},
    ),
    "answers as right as they are sure, without a count": Case(
        combine(give_confident_logits(), change_provenance(POISONED, flipped_train=None)),
        {"logits-above-noise-ceiling": {
            "ceiling": pytest.approx(np.log(4), abs=1e-3), "right of these": 1,
        }},
    ),
    "a model that is sure and wrong, without a count": Case(
        combine(give_confident_logits(2), change_provenance(POISONED, flipped_train=None)),
        gaps={"logits-above-noise-ceiling": "needs flipped_train in provenance.json"},
    ),
    "a clean model that is sure": Case(
        change_logits([0.5 + 3 * at for at in range(10)], [-0.5 - 3 * at for at in range(10)]),
    ),
    "logits that are no numbers": Case(
        lambda lab: replace_logits(lab.run / DATA, "gan2:pre", [float("nan")] * 3 + [1.0] * 7),
        {"undefined-metric": {"not finite": 3, "images": 10}},
    ),
    "tests of one class": Case(
        delete_scores("realFFHQ:pre"),
        {"undefined-metric": {"fake": 10, "real": 0}},
        {"constant-predictor": "both classes"},
    ),
    "scores that cannot be read": Case(
        lambda lab: paths.scores(lab.run / DATA, DATA, "gan2:pre").write_text("path,key\n"),
        {"damaged-file": {}, "undefined-metric": {}},
        {"undefined-metric": "gan2:pre"},
    ),
    "a model without tests": Case(delete_scores(*TESTS), gaps={"constant-predictor": "no test"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_fault_is_found_and_nothing_else(lab: Lab, case: str) -> None:
    broken, found, gaps = CASES[case]
    broken(lab)
    audit = lab.audit()
    assert finding_codes(audit) == set(found)
    for code, told in found.items():
        first = first_finding(audit, code)
        facts = {"severity": first.severity, "model": first.model, **first.evidence}
        for name, value in told.items():
            if name in {"sentence", "advice", "reason", "such as"}:
                assert str(value) in str(getattr(first, name, None) or facts[name])
            else:
                assert facts[name] == value
    for code, reason in gaps.items():
        assert reason in gap_reasons(audit, code)


@pytest.mark.parametrize(
    ("broken", "flags"),
    [
        (change_settings(lr_decay_epochs=2, schedule="onecycle"), ["lr_decay_epochs"]),
        (change_settings(lr_decay_epochs=9), ["lr_decay_epochs"]),
        (change_settings(early_stop=4), ["early_stop"]),
        (change_settings(freeze_bn=False, freeze=False), ["freeze_bn"]),
        (change_settings(blur_sigma=[0.1, 3], blur_prob=0), ["blur_sigma"]),
        (change_settings(jpeg_qual=[30, 100], jpeg_prob=0.0), ["jpeg_qual"]),
        (change_settings(resize_scale=[0.2, 1], resize_prob=0), ["resize_scale"]),
        (
            combine(
                change_settings(jpeg_prob=0.2, blur_prob=0.1), change_provenance(images="gan2:fb&realFFHQ:fb")
            ),
            ["jpeg_prob", "blur_prob"],
        ),
        (
            change_settings(
                compile=True, freeze=True, freeze_bn=True, augment_cycle=2, resize_prob=0,
                blur_prob=0, jpeg_prob=0, flip_prob=0,
            ),
            ["compile", "augment_cycle"],
        ),
        (change_settings(optimizer="adam", momentum=0.9), []),  # the default, written out
        (change_settings(optimizer="adam", momentum=0.5), ["momentum"]),
    ],
)  # fmt: skip
def test_setting_without_effect_is_found(lab: Lab, broken: Break, flags: list[str]) -> None:
    broken(lab)
    found = [one for one in lab.audit().findings if one.code == NO_EFFECT]
    assert [(one.severity, *one.evidence) for one in found] == [("warning", one) for one in flags]


def test_model_below_chance_is_found_with_its_interval(lab: Lab) -> None:
    below = [-1 - place / 10 for place in range(10)]
    change_logits(below, [-value for value in below])(lab)
    audit = lab.audit()
    assert finding_codes(audit) == {"auc-below-chance"}
    evidence = first_finding(audit, "auc-below-chance").evidence
    assert evidence["AUC"] == 0.0
    assert float(evidence["interval's high end"]) < 0.5


def test_fast_auc_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300).astype(np.int8)
    logits = rng.integers(-5, 5, 300).astype(np.float64)
    assert rough_auc(labels, logits) == pytest.approx(roc_auc_score(labels, logits))


def test_check_that_saw_no_model_is_not_listed_as_done(lab: Lab) -> None:
    write_unlearned_model()(lab)
    audit = lab.audit()
    assert not UNLEARNING & ({gap.code for gap in audit.gaps} | audit.checks_without_result)
    update_json(paths.provenance(lab.run / UNLEARNED), splits=None)
    audit = judge(Reader(split_path=lab.split).run(str(lab.run / UNLEARNED)))
    (checked,) = [
        line for line in finding.lines(audit) if line.startswith("checked without findings: ")
    ]
    for code in ("loss-not-falling", "first-epoch-best", "logits-above-noise-ceiling"):
        assert code not in checked
    assert "unlearned-the-truth" in checked
    paths.summary(lab.run / UNLEARNED).unlink()
    paths.unlearning(lab.run / UNLEARNED).unlink()
    assert lab.audit().checks_without_result >= UNLEARNING  # the other models are not unlearned
