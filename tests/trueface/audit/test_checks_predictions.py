from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.trueface.audit.build import (
    DATA,
    POISONED,
    TESTS,
    Lab,
    amend,
    codes,
    rescore,
    the,
    why_not,
)
from trueface.audit.checks_predictions import rough_auc
from trueface.runtime import paths


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
