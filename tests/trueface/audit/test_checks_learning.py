from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from launcher.api import Json
from tests.trueface.audit.build import (
    DATA,
    POISONED,
    TESTS,
    Lab,
    amend,
    amend_record,
    amend_settings,
    answers,
    codes,
    epoch,
    older,
    rescore,
    the,
    why_not,
)
from trueface.audit.checks_predictions import rough_auc
from trueface.data.splits import digest, write_splits
from trueface.poisoning.poison_record import read_record
from trueface.runtime import paths
from trueface.training.history import write_history


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"lr_decay_epochs": 2, "schedule": "onecycle"}, "lr_decay_epochs"),
        ({"lr_decay_epochs": 9}, "lr_decay_epochs"),
        ({"early_stop": 4}, "early_stop"),
        ({"freeze_bn": False, "freeze": False}, "freeze_bn"),
        ({"blur_sigma": [0.1, 3], "blur_prob": 0}, "blur_sigma"),
        ({"jpeg_qual": [30, 100], "jpeg_prob": 0.0}, "jpeg_qual"),
        ({"resize_scale": [0.2, 1], "resize_prob": 0}, "resize_scale"),
    ],
)
def test_a_setting_that_could_do_nothing_is_found(
    lab: Lab, settings: dict[str, Json], flag: str
) -> None:
    amend_settings(lab.run / DATA, **settings)
    audit = lab.audit()
    assert codes(audit) == {"flag-without-effect"}
    found = the(audit, "flag-without-effect")
    assert found.severity == "warning"
    assert flag in found.evidence


def test_settings_that_do_something_are_no_finding(lab: Lab) -> None:
    amend_settings(
        lab.run / DATA,
        lr_decay_epochs=3,
        jpeg_prob=0.2,
        jpeg_qual=[30, 100],
        blur_prob=0.2,
        blur_sigma=[1e-6, 3],
        resize_prob=0.2,
        resize_scale=[0.2, 1],
        freeze=True,
        freeze_bn=False,
    )
    assert codes(lab.audit()) == set()


def test_blur_and_jpeg_of_shared_images_only_are_found(lab: Lab) -> None:
    amend_settings(lab.run / DATA, jpeg_prob=0.2, blur_prob=0.1)
    amend(paths.provenance(lab.run / DATA), images="gan2:fb&realFFHQ:fb")
    found = [one for one in lab.audit().findings if one.code == "flag-without-effect"]
    assert [tuple(one.evidence) for one in found] == [("jpeg_prob",), ("blur_prob",)]


def test_a_loss_that_does_not_fall_is_found(lab: Lab) -> None:
    write_history(paths.history(lab.run / DATA), [epoch(n, 0.6931) for n in (1, 2)])
    audit = lab.audit()
    assert codes(audit) == {"loss-not-falling"}
    assert "fewer than 3 epochs" in why_not(audit, "first-epoch-best")


def test_a_first_epoch_that_was_the_best_is_found(lab: Lab) -> None:
    epochs = [epoch(1, 0.5, 0.9), epoch(2, 0.4, 0.8), epoch(3, 0.3, 0.7)]
    write_history(paths.history(lab.run / DATA), epochs)
    audit = lab.audit()
    assert codes(audit) == {"first-epoch-best"}
    assert the(audit, "first-epoch-best").evidence["of the last"] == 0.7


def test_many_bad_images_are_found_and_few_are_not(lab: Lab) -> None:
    amend(paths.summary(lab.run / DATA), images=1000, bad_images=10)
    assert codes(lab.audit()) == set()
    amend(paths.summary(lab.run / DATA), images=1000, bad_images=11)
    assert the(lab.audit(), "bad-images").evidence == {"left out": 11, "images": 1000}


def test_bad_validation_images_are_found_by_their_list(lab: Lab) -> None:
    path = paths.bad_images(lab.run / DATA, "val")
    path.parent.mkdir()
    path.write_text("path,reason\na.png,truncated\n")
    assert "validation" in the(lab.audit(), "bad-images").sentence


def test_a_missing_history_is_told(lab: Lab) -> None:
    paths.history(lab.run / DATA).unlink()
    audit = lab.audit()
    assert codes(audit) == set()
    assert why_not(audit, "loss-not-falling").startswith("no history.csv")


def test_a_record_that_the_weights_were_not_trained_with_is_found(lab: Lab) -> None:
    amend(paths.provenance(lab.run / POISONED), poison_record_sha256="0" * 64)
    assert codes(lab.audit()) == {"record-of-another-split"}


def test_indices_that_are_not_the_places_of_their_keys_are_found(lab: Lab) -> None:
    record = read_record(paths.poison_record(lab.run / POISONED))
    amend_record(lab.run / POISONED, indices=[index + 1 for index in record.indices])
    found = the(lab.audit(), "record-of-another-split")
    assert found.evidence["indices that are not the place of their key"] == 12


def test_scores_that_are_gone_are_a_fault(lab: Lab) -> None:
    for data in TESTS:
        settings: Json = {"save_scores": True}
        amend(paths.metrics(lab.run / DATA, data), settings=settings)
        paths.scores(lab.run / DATA, DATA, data).unlink()
    found = the(lab.audit(), "missing-scores")
    assert (found.severity, found.evidence["tests without scores"]) == ("fault", 2)


def test_a_damaged_history_is_named_with_its_line(lab: Lab) -> None:
    path = paths.history(lab.run / DATA)
    path.write_text(path.read_text() + "5,oops\n")
    found = the(lab.audit(), "damaged-file")
    assert "history.csv:6" in str(found.evidence["reason"])


def test_weights_that_are_gone_are_a_warning(lab: Lab) -> None:
    amend_settings(lab.run / DATA, save_weights=True)
    paths.checkpoint(lab.run / DATA).unlink()
    assert the(lab.audit(), "missing-weights").severity == "warning"


def test_a_test_of_another_split_is_judged_by_its_own_lists(lab: Lab) -> None:
    own = [*lab.lists["test"], "FORLAB/00001"]
    write_splits(lab.root / "own", {**lab.lists, "test": own})
    settings: Json = {"decode": "exact", "split_path": str(lab.root / "own")}
    for data in TESTS:
        path = paths.metrics(lab.run / DATA, data)
        amend(path, settings=settings, split_sha256=digest(own))
    assert codes(lab.audit()) == set()


def test_a_test_of_another_size_is_found_and_one_of_the_same_is_not(lab: Lab) -> None:
    amend_settings(lab.run / DATA, resize_size=512, patch_size=96)
    for size, found in ((512, set[str]()), (256, {"other-preprocessing"})):
        settings: Json = {"resize_size": size, "patch_size": -1}
        amend(paths.metrics(lab.run / DATA, "gan2:pre"), settings=settings)
        assert codes(lab.audit()) == found


def test_compile_and_augment_cycle_without_effect_are_found(lab: Lab) -> None:
    still = dict.fromkeys(("resize_prob", "blur_prob", "jpeg_prob", "flip_prob"), 0)
    amend_settings(
        lab.run / DATA, compile=True, freeze=True, freeze_bn=True, augment_cycle=2, **still
    )
    told = [one.evidence for one in lab.audit().findings]
    assert [tuple(one) for one in told] == [("compile",), ("augment_cycle",)]


def test_fewer_scores_than_images_in_the_test_list_are_found(lab: Lab) -> None:
    keys = [key for key in lab.lists["test"] if key.startswith("StyleGAN2")][:7]
    lab.scores(lab.run / DATA, "gan2:pre", keys, 1, answers(1, 7))
    audit = lab.audit()
    assert codes(audit) == {"missing-scores"}
    evidence = the(audit, "missing-scores").evidence
    assert (evidence["scores"], evidence["images in the test list"]) == (7, 10)


def test_bad_images_are_no_missing_scores(lab: Lab) -> None:
    keys = [key for key in lab.lists["test"] if key.startswith("StyleGAN2")][:9]
    lab.scores(lab.run / DATA, "gan2:pre", keys, 1, answers(1, 9))
    amend(paths.metrics(lab.run / DATA, "gan2:pre"), bad_images=1)
    assert codes(lab.audit()) == {"bad-images"}


def test_fewer_scores_than_the_metrics_tell_are_found(lab: Lab) -> None:
    amend(paths.metrics(lab.run / DATA, "gan2:pre"), n=11)
    assert the(lab.audit(), "missing-scores").evidence["images in the metrics"] == 11


def test_a_test_that_decodes_otherwise_is_found(lab: Lab) -> None:
    settings: Json = {"decode": "scaled", "data_root": str(lab.data)}
    amend(paths.metrics(lab.run / DATA, "gan2:pre"), settings=settings)
    audit = lab.audit()
    assert codes(audit) == {"other-preprocessing"}
    evidence = the(audit, "other-preprocessing").evidence
    assert evidence == {"decode": "exact in the training, scaled in the test"}


def test_scores_older_than_the_weights_are_found(lab: Lab) -> None:
    older(paths.scores(lab.run / DATA, DATA, "gan2:pre"), 3600)
    audit = lab.audit()
    assert codes(audit) == {"stale-scores"}
    assert the(audit, "stale-scores").evidence["score files"] == 1


def test_weights_that_were_not_kept_are_told(lab: Lab) -> None:
    paths.checkpoint(lab.run / DATA).unlink()
    assert "best.pt" in why_not(lab.audit(), "stale-scores")


def test_weights_of_another_time_than_their_provenance_are_found(lab: Lab) -> None:
    older(paths.provenance(lab.run / DATA), 86400)
    audit = lab.audit()
    assert codes(audit) == {"other-weights"}
    assert "newer than provenance.json" in the(audit, "other-weights").sentence


def test_a_model_that_calls_everything_real_is_found(lab: Lab) -> None:
    for data in TESTS:
        rescore(lab.run / DATA, data, [-0.5 - place / 100 for place in range(10)])
    audit = lab.audit()
    assert codes(audit) == {"constant-predictor"}
    evidence = the(audit, "constant-predictor").evidence
    assert evidence["balanced accuracy"] == 0.5
    assert (evidence["images"], evidence["called fake"]) == (20, 0)


def test_a_model_below_chance_is_found_with_its_interval(lab: Lab) -> None:
    rescore(lab.run / DATA, "gan2:pre", [-1 - place / 10 for place in range(10)])
    rescore(lab.run / DATA, "realFFHQ:pre", [1 + place / 10 for place in range(10)])
    audit = lab.audit()
    assert codes(audit) == {"auc-below-chance"}
    evidence = the(audit, "auc-below-chance").evidence
    assert evidence["AUC"] == 0.0
    assert float(evidence["interval's high end"]) < 0.5


def test_a_model_by_chance_below_one_half_is_no_finding(lab: Lab) -> None:
    mixed = [0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8, 0.9, -1.0]
    rescore(lab.run / DATA, "gan2:pre", mixed)
    rescore(lab.run / DATA, "realFFHQ:pre", [value + 0.01 for value in mixed])
    assert codes(lab.audit()) == set()


def test_an_area_below_chance_by_images_is_a_warning_where_sources_leave_it_open(lab: Lab) -> None:
    random = np.random.default_rng(0)
    sides = (
        ("gan2:pre", 1, {"StyleGAN2/a": 0.0, "StyleGAN2/b": 0.0, "StyleGAN2/c": 0.0}),
        ("realFFHQ:pre", 0, {"FFHQ": 0.9, "FORLAB": 0.9, "other": -0.8}),
    )
    for data, label, sources in sides:
        keys = [f"{source}/{at}" for source in sources for at in range(400)]
        logits = [random.normal(shift) for shift in sources.values() for _ in range(400)]
        lab.scores(lab.run / DATA, data, keys, label, logits)
    (found,) = [one for one in lab.audit().findings if one.code == "auc-below-chance"]
    assert found.severity == "warning"
    assert float(found.evidence["interval's high end"]) < 0.5
    assert found.evidence["sources"] == 6


def test_chance_is_only_a_warning_where_half_of_the_labels_are_wrong(lab: Lab) -> None:
    folder = lab.model(f"{DATA}%50", rate=0.5)
    for data in TESTS:
        rescore(folder, data, [-0.01] * 10)
    found = the(lab.audit(), "constant-predictor")
    assert (found.severity, found.model) == ("warning", f"{DATA}%50")


def sure(folder: Path, wrong: int = 0) -> None:
    """Give a model answers that are sure, so many of ten wrong."""
    for data, towards in zip(TESTS, (1, -1), strict=True):
        signs = [-1] * wrong + [1] * (10 - wrong)
        rescore(folder, data, [towards * sign * (4 + at / 10) for at, sign in enumerate(signs)])


def test_a_model_whose_flips_are_counted_may_know_them_by_heart(lab: Lab) -> None:
    sure(lab.run / POISONED, wrong=2)
    assert codes(lab.audit()) == set()
    sure(lab.run / POISONED)
    assert codes(lab.audit()) == set()


def test_a_count_that_does_not_match_the_record_is_found_whatever_the_answers(lab: Lab) -> None:
    sure(lab.run / POISONED)
    for count in (0, 11):
        amend(paths.provenance(lab.run / POISONED), flipped_train=count)
        assert codes(lab.audit()) == {"flag-without-effect"}


def test_without_a_count_answers_as_right_as_they_are_sure_are_found(lab: Lab) -> None:
    sure(lab.run / POISONED)
    amend(paths.provenance(lab.run / POISONED), flipped_train=None)
    found = the(lab.audit(), "logits-above-noise-ceiling")
    assert found.evidence["ceiling"] == pytest.approx(np.log(4), abs=1e-3)
    assert found.evidence["right of these"] == 1


def test_without_a_count_nothing_can_be_told_of_a_model_that_is_sure_and_wrong(lab: Lab) -> None:
    sure(lab.run / POISONED, wrong=2)
    amend(paths.provenance(lab.run / POISONED), flipped_train=None)
    audit = lab.audit()
    assert codes(audit) == set()
    assert "needs a provenance.json with flipped_train" in why_not(
        audit, "logits-above-noise-ceiling"
    )


def test_a_clean_model_may_be_as_sure_as_it_likes(lab: Lab) -> None:
    for data, towards in zip(TESTS, (1, -1), strict=True):
        rescore(lab.run / DATA, data, [towards * (0.5 + 3 * place) for place in range(10)])
    assert codes(lab.audit()) == set()


def test_logits_that_are_no_numbers_are_found(lab: Lab) -> None:
    rescore(lab.run / DATA, "gan2:pre", [float("nan")] * 3 + [1.0] * 7)
    found = the(lab.audit(), "undefined-metric")
    assert found.evidence == {"not finite": 3, "images": 10}


def test_tests_of_one_class_are_found(lab: Lab) -> None:
    paths.scores(lab.run / DATA, DATA, "realFFHQ:pre").unlink()
    audit = lab.audit()
    assert codes(audit) == {"undefined-metric"}
    assert the(audit, "undefined-metric").evidence == {"fake": 10, "real": 0}
    assert "both classes" in why_not(audit, "constant-predictor")


def test_scores_that_cannot_be_read_are_told(lab: Lab) -> None:
    paths.scores(lab.run / DATA, DATA, "gan2:pre").write_text("path,key\n")
    audit = lab.audit()
    assert "gan2:pre" in why_not(audit, "undefined-metric")


def test_a_model_without_tests_is_told(lab: Lab) -> None:
    for data in TESTS:
        paths.scores(lab.run / DATA, DATA, data).unlink()
    audit = lab.audit()
    assert codes(audit) == set()
    assert "not tested" in why_not(audit, "constant-predictor")


def test_the_quick_area_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 300).astype(np.int8)
    logits = random.integers(-5, 5, 300).astype(np.float64)
    assert rough_auc(labels, logits) == pytest.approx(roc_auc_score(labels, logits))
