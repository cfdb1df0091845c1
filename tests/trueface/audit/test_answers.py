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
from trueface import layout
from trueface.audit.answers import rough_auc


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


def test_chance_is_only_a_warning_where_half_of_the_labels_are_wrong(lab: Lab) -> None:
    folder = lab.model(f"{DATA}%50", rate=0.5)
    for data in TESTS:
        rescore(folder, data, [-0.01] * 10)
    found = the(lab.audit(), "constant-predictor")
    assert (found.severity, found.model) == ("warning", f"{DATA}%50")


def test_answers_surer_than_noisy_labels_allow_are_found(lab: Lab) -> None:
    folder = lab.run / POISONED
    for data, towards in zip(TESTS, (1, -1), strict=True):
        rescore(folder, data, [towards * (0.5 + place) for place in range(10)])
    found = the(lab.audit(), "logits-above-noise-ceiling")
    assert found.evidence["ceiling"] == pytest.approx(np.log(4), abs=1e-3)
    assert found.severity == "warning"  # the labels were turned round: it learned them by heart
    amend(layout.provenance(folder), flipped_train=0)
    audit = lab.audit()
    assert codes(audit) == {"logits-above-noise-ceiling", "flag-without-effect"}
    assert the(audit, "logits-above-noise-ceiling").severity == "fault"


def test_a_clean_model_may_be_as_sure_as_it_likes(lab: Lab) -> None:
    for data, towards in zip(TESTS, (1, -1), strict=True):
        rescore(lab.run / DATA, data, [towards * (0.5 + 3 * place) for place in range(10)])
    assert codes(lab.audit()) == set()


def test_logits_that_are_no_numbers_are_found(lab: Lab) -> None:
    rescore(lab.run / DATA, "gan2:pre", [float("nan")] * 3 + [1.0] * 7)
    found = the(lab.audit(), "undefined-metric")
    assert found.evidence == {"not finite": 3, "images": 10}


def test_tests_of_one_class_are_found(lab: Lab) -> None:
    layout.scores(lab.run / DATA, DATA, "realFFHQ:pre").unlink()
    audit = lab.audit()
    assert codes(audit) == {"undefined-metric"}
    assert the(audit, "undefined-metric").evidence == {"fake": 10, "real": 0}
    assert "both classes" in why_not(audit, "constant-predictor")


def test_scores_that_cannot_be_read_are_told(lab: Lab) -> None:
    layout.scores(lab.run / DATA, DATA, "gan2:pre").write_text("path,key\n")
    audit = lab.audit()
    assert "gan2:pre" in why_not(audit, "undefined-metric")


def test_a_model_without_tests_is_told(lab: Lab) -> None:
    for data in TESTS:
        layout.scores(lab.run / DATA, DATA, data).unlink()
    audit = lab.audit()
    assert codes(audit) == set()
    assert "not tested" in why_not(audit, "constant-predictor")


def test_the_quick_area_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 300).astype(np.int8)
    logits = random.integers(-5, 5, 300).astype(np.float64)
    assert rough_auc(labels, logits) == pytest.approx(roc_auc_score(labels, logits))
