"""All checks of an audit, in the order in which they are told."""

from collections.abc import Callable, Iterator

from trueface.audit import (
    checks_files,
    checks_leakage,
    checks_poisoning,
    checks_predictions,
    checks_shortcuts,
    checks_testing,
    checks_training,
    checks_unlearning,
)
from trueface.audit.finding import FAULT, Audit, Finding, Gap, Idle, Told
from trueface.audit.run_facts import Model, Run

Check = Callable[[Model], Iterator[Told]]

CHECKS: tuple[tuple[str, str, tuple[Check, ...]], ...] = (
    (
        "poisoned-validation",
        "wrong labels in the validation list",
        (checks_poisoning.poisoned_validation,),
    ),
    (
        "record-of-another-split",
        "a poison record of other images than the training's",
        (checks_poisoning.other_record,),
    ),
    (
        "flag-without-effect",
        "poison or settings that changed nothing",
        (checks_poisoning.no_flips, checks_training.idle_settings),
    ),
    ("one-class-forget-set", "recorded labels of one class only", (checks_poisoning.one_class,)),
    ("constant-predictor", "one answer for every image", (checks_predictions.constant,)),
    ("auc-below-chance", "a model worse than a coin", (checks_predictions.below_chance,)),
    (
        "logits-above-noise-ceiling",
        "answers surer than such labels allow",
        (checks_predictions.noise_ceiling,),
    ),
    (
        "undefined-metric",
        "scores that are no numbers, or of one class",
        (checks_predictions.undefined,),
    ),
    ("train-test-overlap", "test images in the training list", (checks_leakage.trained_on_tests,)),
    (
        "validation-overlap",
        "validation images in another list",
        (checks_leakage.validated_on_training,),
    ),
    ("same-content", "test files with the bytes of training files", (checks_leakage.same_content,)),
    ("changed-split", "lists that have changed since", (checks_leakage.changed_lists,)),
    ("class-differs-in-format", "a class in another file format", (checks_shortcuts.in_format,)),
    ("class-differs-in-size", "a class of another image size", (checks_shortcuts.in_size,)),
    (
        "class-differs-in-jpeg-tables",
        "a class with other JPEG tables",
        (checks_shortcuts.in_tables,),
    ),
    ("bad-images", "more than 1 % of images left out", (checks_training.bad_images,)),
    (
        "missing-scores",
        "fewer scores than images",
        (checks_files.gone_scores, checks_testing.missing_scores),
    ),
    ("damaged-file", "files that cannot be read", (checks_files.damaged_files,)),
    ("missing-weights", "weights that were tested and are gone", (checks_files.gone_weights,)),
    ("other-preprocessing", "images read otherwise in a test", (checks_testing.other_reading,)),
    ("loss-not-falling", "a loss that does not fall", (checks_training.loss,)),
    ("first-epoch-best", "a training that made things worse", (checks_training.first_epoch,)),
    (
        "unlearned-the-truth",
        "an unlearning away from the true labels",
        (checks_unlearning.away_from_truth,),
    ),
    (
        "undefined-unlearning-loss",
        "a loss of an unlearning that is no number",
        (checks_unlearning.undefined_loss,),
    ),
    (
        "unlearned-model-is-the-old-one",
        "an unlearned model that is the model before",
        (checks_unlearning.old_model,),
    ),
    ("stale-scores", "scores older than the weights", (checks_testing.stale_scores,)),
    (
        "other-weights",
        "weights older or newer than their provenance",
        (checks_testing.other_weights,),
    ),
)


def judge(run: Run) -> Audit:
    """Return all that is wrong in a run, and what could not be looked at."""
    told = [
        one
        for model in run.models
        for _, _, checks in CHECKS
        for check in checks
        for one in check(model)
    ]
    findings = [one for one in told if isinstance(one, Finding)]
    return Audit(
        run=run.name,
        models=tuple(model.name for model in run.models),
        checks=tuple((code, what) for code, what, _ in CHECKS),
        findings=tuple(sorted(findings, key=lambda finding: finding.severity != FAULT)),
        gaps=tuple(one for one in told if isinstance(one, Gap)),
        idle=tuple(one for one in told if isinstance(one, Idle)),
    )
