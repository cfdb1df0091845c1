"""All checks of an audit, in the order in which they are told."""

from collections.abc import Callable, Iterator

from trueface.audit import (
    answers,
    classes,
    evidence,
    learning,
    overlap,
    poisoning,
    testing,
    unlearning,
)
from trueface.audit.facts import Model, Run
from trueface.audit.finding import FAULT, Audit, Finding, Gap, Idle, Told

Check = Callable[[Model], Iterator[Told]]

CHECKS: tuple[tuple[str, str, tuple[Check, ...]], ...] = (
    (
        "poisoned-validation",
        "wrong labels in the validation list",
        (poisoning.poisoned_validation,),
    ),
    (
        "record-of-another-split",
        "a poison record of other images than the training's",
        (poisoning.other_record,),
    ),
    (
        "flag-without-effect",
        "poison or settings that changed nothing",
        (poisoning.no_flips, learning.idle_settings),
    ),
    ("one-class-forget-set", "recorded labels of one class only", (poisoning.one_class,)),
    ("constant-predictor", "one answer for every image", (answers.constant,)),
    ("auc-below-chance", "a model worse than a coin", (answers.below_chance,)),
    (
        "logits-above-noise-ceiling",
        "answers surer than such labels allow",
        (answers.noise_ceiling,),
    ),
    ("undefined-metric", "scores that are no numbers, or of one class", (answers.undefined,)),
    ("train-test-overlap", "test images in the training list", (overlap.trained_on_tests,)),
    ("validation-overlap", "validation images in another list", (overlap.validated_on_training,)),
    ("same-content", "test files with the bytes of training files", (overlap.same_content,)),
    ("changed-split", "lists that have changed since", (overlap.changed_lists,)),
    ("class-differs-in-format", "a class in another file format", (classes.in_format,)),
    ("class-differs-in-size", "a class of another image size", (classes.in_size,)),
    ("class-differs-in-jpeg-tables", "a class with other JPEG tables", (classes.in_tables,)),
    ("bad-images", "more than 1 % of images left out", (learning.bad_images,)),
    ("missing-scores", "fewer scores than images", (evidence.gone_scores, testing.missing_scores)),
    ("damaged-file", "files that cannot be read", (evidence.damaged_files,)),
    ("missing-weights", "weights that were tested and are gone", (evidence.gone_weights,)),
    ("other-preprocessing", "images read otherwise in a test", (testing.other_reading,)),
    ("loss-not-falling", "a loss that does not fall", (learning.loss,)),
    ("first-epoch-best", "a training that made things worse", (learning.first_epoch,)),
    (
        "unlearned-the-truth",
        "an unlearning away from the true labels",
        (unlearning.away_from_truth,),
    ),
    (
        "undefined-unlearning-loss",
        "a loss of an unlearning that is no number",
        (unlearning.undefined_loss,),
    ),
    (
        "unlearned-model-is-the-old-one",
        "an unlearned model that is the model before",
        (unlearning.old_model,),
    ),
    ("stale-scores", "scores older than the weights", (testing.stale_scores,)),
    ("other-weights", "weights older or newer than their provenance", (testing.other_weights,)),
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
