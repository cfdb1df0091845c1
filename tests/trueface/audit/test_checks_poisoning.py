import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from launcher.api import Json, read_json, write_json
from tests.trueface.audit.build import (
    DATA,
    POISONED,
    TESTS,
    Lab,
    amend,
    amend_record,
    codes,
    rescore,
    the,
    why_not,
)
from tests.trueface.audit.test_old_runs import (
    FAKES,
    ID,
    LISTS,
    REALS,
    _audit,
    _record,
    _run,
)
from trueface.audit import finding
from trueface.audit.finding import Audit
from trueface.data.splits import write_splits
from trueface.runtime import paths

CODES = {"unlearned-the-truth", "undefined-unlearning-loss", "unlearned-model-is-the-old-one"}
MODEL = f"{POISONED}~relabel"
Series = Sequence[tuple[float, float]]
SOUND: Series = [(0.6, 80.0), (0.5, 85.0), (0.4, 90.0)]


def test_a_sound_run_has_no_finding_and_every_check_was_made(lab: Lab) -> None:
    audit = lab.audit()
    assert audit.findings == ()
    assert audit.gaps == ()
    assert audit.models == (DATA, POISONED)


def test_labels_flipped_in_validation_are_found_by_the_provenance(lab: Lab) -> None:
    amend(paths.provenance(lab.run / POISONED), flipped_val=2)
    audit = lab.audit()
    assert codes(audit) == {"poisoned-validation"}
    found = the(audit, "poisoned-validation")
    assert (found.severity, found.model) == ("fault", POISONED)
    assert found.evidence["flipped validation labels"] == 2


def test_a_record_of_the_validation_list_is_found_by_its_keys(lab: Lab) -> None:
    keys = [f"pre:{key}" for key in lab.lists["val"]]
    amend_record(lab.run / POISONED, keys=list(keys), indices=list(range(10)), total=10)
    amend(paths.provenance(lab.run / POISONED), flipped_train=10)
    audit = lab.audit()
    assert codes(audit) == {"poisoned-validation", "record-of-another-split"}
    assert the(audit, "poisoned-validation").evidence["of them in the validation list"] == 10
    other = the(audit, "record-of-another-split")
    assert other.evidence["record's total"] == 10
    assert other.evidence["training images"] == 60
    assert other.evidence["not in the training list"] == 10


def test_a_record_of_another_set_of_the_same_size_is_found_by_its_fingerprint(lab: Lab) -> None:
    amend_record(lab.run / POISONED, split_sha256="0" * 64)
    audit = lab.audit()
    assert codes(audit) == {"record-of-another-split"}
    assert the(audit, "record-of-another-split").evidence["record's set (sha256)"] == "0" * 12


def test_poison_that_never_reached_the_labels_is_found(lab: Lab) -> None:
    amend(paths.provenance(lab.run / POISONED), flipped_train=0)
    audit = lab.audit()
    assert codes(audit) == {"flag-without-effect"}
    assert the(audit, "flag-without-effect").evidence["labels turned round"] == 0
    assert "no label was flipped" in the(audit, "flag-without-effect").sentence


def test_poison_in_the_name_without_a_record_is_found(lab: Lab) -> None:
    paths.poison_record(lab.run / POISONED).unlink()
    amend(paths.provenance(lab.run / POISONED), flipped_train=0)
    audit = lab.audit()
    assert codes(audit) == {"flag-without-effect"}
    assert "no poison record" in why_not(audit, "one-class-forget-set")


def test_a_record_beside_a_model_without_poison_in_its_name_is_believed(lab: Lab) -> None:
    # the original's command line gives the rate as a flag, and the ID does not tell it
    record = paths.poison_record(lab.run / POISONED).read_bytes()
    paths.poison_record(lab.run / DATA).write_bytes(record)
    audit = lab.audit()
    assert codes(audit) == {"flag-without-effect"}
    assert the(audit, "flag-without-effect").model == DATA
    amend(paths.provenance(lab.run / DATA), flipped_train=12)
    assert codes(lab.audit()) == set()


def test_another_number_of_flips_than_recorded_is_found(lab: Lab) -> None:
    amend(paths.provenance(lab.run / POISONED), flipped_train=7)
    found = the(lab.audit(), "flag-without-effect")
    assert (found.evidence["labels turned round"], found.evidence["recorded keys"]) == (7, 12)


def test_a_forget_set_of_one_class_is_found_unless_it_was_meant(lab: Lab) -> None:
    fakes = [f"pre:{key}" for key in lab.lists["train"] if key.startswith("StyleGAN2")][:12]
    names = [image.name for image in lab.trained()]
    at = [names.index(key) for key in fakes]
    amend_record(lab.run / POISONED, keys=list(fakes), indices=list(at))
    audit = lab.audit()
    assert codes(audit) == {"one-class-forget-set"}
    assert the(audit, "one-class-forget-set").evidence == {"fake": 12, "real": 0}
    amend_record(lab.run / POISONED, kind="f2r")
    assert codes(lab.audit()) == set()


def test_a_record_that_cannot_be_read_is_a_fault_and_is_told(lab: Lab) -> None:
    paths.poison_record(lab.run / POISONED).write_text('{"schema": 99}')
    audit = lab.audit()
    assert codes(audit) == {"damaged-file"}
    for code in ("poisoned-validation", "record-of-another-split", "flag-without-effect"):
        reason = why_not(audit, code)
        assert code == "poisoned-validation" or "cannot read the poison record" in reason


def test_without_provenance_what_cannot_be_told_is_named(lab: Lab) -> None:
    paths.provenance(lab.run / POISONED).unlink()
    audit = lab.audit(split_path=lab.split)
    assert codes(audit) == set()
    assert "no provenance records how many labels" in why_not(audit, "flag-without-effect")
    assert "give --data-root" in why_not(audit, "same-content")
    assert read_json(paths.provenance(lab.run / POISONED)) is None


def unlearned(lab: Lab, **summary: Json) -> Path:
    """Write a sound unlearning of the poisoned model."""
    folder = lab.model(MODEL, rate=0.2)
    write_json(paths.unlearning(folder), {"schema": 1, "base": POISONED})
    log: list[Json] = [{"step": 0}, {"step": 1, "loss": 0.6}, {"step": 2, "loss": 0.4}]
    found: dict[str, Json] = {
        "forget_accuracy_true_before": 0.5, "forget_accuracy_true": 0.9, "log": log, "images": 60,
        "bad_images": 0,
    }  # fmt: skip
    write_json(paths.summary(folder), {"schema": 1, **found, **summary})
    paths.history(folder).unlink()
    for data, towards in zip(TESTS, (1, -1), strict=True):
        rescore(folder, data, [towards * (0.3 + place / 10) for place in range(10)])
    return folder


def test_a_sound_unlearning_has_none_of_these_faults_and_was_looked_at(lab: Lab) -> None:
    unlearned(lab)
    audit = lab.audit()
    assert codes(audit) == set()
    assert not CODES & {gap.code for gap in audit.gaps}
    assert not CODES & audit.unmade


def test_an_unlearning_away_from_the_true_labels_is_found(lab: Lab) -> None:
    unlearned(lab, forget_accuracy_true_before=0.95, forget_accuracy_true=0.3)
    audit = lab.audit()
    assert codes(audit) == {"unlearned-the-truth"}
    assert the(audit, "unlearned-the-truth").severity == "fault"
    assert the(audit, "unlearned-the-truth").evidence["true label after, %"] == 30


def test_a_fall_that_so_few_images_may_show_by_chance_is_none(lab: Lab) -> None:
    unlearned(lab, forget_accuracy_true_before=0.7, forget_accuracy_true=0.6)
    assert codes(lab.audit()) == set()


def test_a_step_without_a_loss_is_found(lab: Lab) -> None:
    unlearned(lab, log=[{"step": 1, "loss": 0.6}, {"step": 2, "loss": None}])
    audit = lab.audit()
    assert codes(audit) == {"undefined-unlearning-loss"}
    evidence = the(audit, "undefined-unlearning-loss").evidence
    assert evidence == {"steps without a loss": 1, "steps": 2}


def test_scores_that_are_those_of_the_model_before_are_found(lab: Lab) -> None:
    folder = unlearned(lab)
    for data in TESTS:
        then = paths.scores(lab.run / POISONED, POISONED, data).read_bytes()
        paths.scores(folder, folder.name, data).write_bytes(then)
    audit = lab.audit()
    assert codes(audit) == {"unlearned-model-is-the-old-one"}
    evidence = the(audit, "unlearned-model-is-the-old-one").evidence
    assert (evidence["model before"], evidence["tests with equal scores"]) == (POISONED, 2)


def test_an_unlearning_that_left_nothing_to_look_at_says_what_is_needed(lab: Lab) -> None:
    folder = unlearned(lab)
    paths.summary(folder).unlink()
    paths.unlearning(folder).unlink()
    audit = lab.audit()
    assert "that needs summary.json" in why_not(audit, "unlearned-the-truth")
    assert "neither a log in summary.json" in why_not(audit, "undefined-unlearning-loss")
    assert "model before is not known" in why_not(audit, "unlearned-model-is-the-old-one")
    assert audit.unmade >= CODES  # the other models are no unlearnings


@pytest.fixture
def split(tmp_path: Path) -> Path:
    write_splits(tmp_path / "splits", LISTS)
    return tmp_path / "splits"


def old(root: Path, split: Path, *, sure: float = 1.0, **series: Series) -> Audit:
    """Audit an unlearning of the original system; its model before is `sure` of its answers."""
    _run(root, "20_poison", [sure] * 10, [-sure] * 10)
    _record(root, 0.2, [*FAKES[:8], *REALS[:8]], 80)
    folder = root / "runs" / "unlearning" / "unlearn_20_poison"
    folder.mkdir(parents=True)
    config = {"poison_rate": 0.2, "data": ID, "offset": 0.1}
    (folder / "config.json").write_text(json.dumps(config))
    results = {
        name: series.get(name, SOUND) for name in ("clean_train", "poison_train", "test", "val")
    }
    np.save(folder / "results.npy", np.array(results, dtype=object), allow_pickle=True)
    return _audit(folder.parent, split)


def test_a_sound_unlearning_of_the_original_system_has_none_of_them(
    tmp_path: Path, split: Path
) -> None:
    audit = old(tmp_path, split)
    assert not CODES & codes(audit)
    assert not CODES & audit.unmade


def test_the_original_pushed_the_forgotten_away_from_their_true_labels(
    tmp_path: Path, split: Path
) -> None:
    audit = old(tmp_path, split, poison_train=[(0.1, 99.48), (2.0, 40.0), (3.0, 0.0)])
    assert codes(audit) & CODES == {"unlearned-the-truth"}


@pytest.mark.parametrize("undefined", [{"sure": 4.0}, {"val": [(0.6, 80.0), (math.nan, 80.0)]}])
def test_the_originals_loss_is_undefined_where_the_model_was_sure(
    tmp_path: Path, split: Path, undefined: dict[str, object]
) -> None:
    audit = old(tmp_path, split, **undefined)  # type: ignore[arg-type]  # one of two sorts
    assert codes(audit) & CODES == {"undefined-unlearning-loss"}


def test_the_original_may_have_kept_the_model_before_as_its_best(
    tmp_path: Path, split: Path
) -> None:
    audit = old(tmp_path, split, clean_train=[(0.1, 97.0), (0.2, 95.0), (0.3, 96.9)])
    assert codes(audit) & CODES == {"unlearned-model-is-the-old-one"}
    assert "epoch 0" in the(audit, "unlearned-model-is-the-old-one").sentence


def test_a_test_of_the_originals_old_weights_by_mistake_is_found(
    tmp_path: Path, split: Path
) -> None:
    logits = [0.1 + place / 10 for place in range(10)]
    _run(tmp_path, "20_poison", logits, [-one for one in logits])
    run = _run(tmp_path, "20_poison_unlearn_test", logits[::-1], [-one for one in logits])
    _record(tmp_path, 0.2, [*FAKES[:8], *REALS[:8]], 80)
    assert "unlearned-model-is-the-old-one" in codes(_audit(run, split))


def test_an_unlearned_model_was_not_checked_for_what_only_a_training_leaves(lab: Lab) -> None:
    folder = unlearned(lab)
    for data in TESTS:
        paths.scores(folder, folder.name, data).unlink()
        paths.metrics(folder, data).unlink()
    audit = lab.audit()
    for code in ("loss-not-falling", "first-epoch-best"):
        assert "no training wrote it: the check needs that of the model before" in why_not(
            audit, code
        )
    for code in ("auc-below-chance", "stale-scores", "other-preprocessing", "missing-scores"):
        assert "test it on both classes" in why_not(audit, code)


def test_what_looked_at_no_model_is_not_called_checked(lab: Lab) -> None:
    folder = unlearned(lab)
    amend(paths.provenance(folder), splits=None)
    audit = _audit(folder, lab.split)
    lines = list(finding.lines(audit))
    (checked,) = [line for line in lines if line.startswith("checked, nothing found: ")]
    for code in ("loss-not-falling", "first-epoch-best", "logits-above-noise-ceiling"):
        assert code not in checked
    assert "unlearned-the-truth" in checked
