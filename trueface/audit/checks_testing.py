"""Findings on tests: missing or damaged files, images left out or decoded differently, other weights."""

from collections.abc import Iterator, Mapping

import numpy as np

from trueface.audit.check import check
from trueface.audit.finding import FAULT, WARNING, Finding, Gap, Outcome
from trueface.audit.run_facts import (
    UNTESTED,
    AuditedTest,
    Evidence,
    Model,
    read_mapping,
    read_number,
)
from trueface.evaluation.finished_tests import describe_edit, is_of_earlier_weights
from trueface.runtime.files import Json

WRITING_S = 60.0  # between weights and their provenance: large files, slow disks
SLACK_S = 2.0  # between files of one job; coarser file systems count in two seconds


@check("damaged-file", "files that cannot be read")
def damaged_files(model: Model) -> Iterator[Outcome]:
    """Find files of a model that are there and cannot be read."""
    for file, trouble in model.damaged:
        yield Finding(
            FAULT,
            f"{file} cannot be read, so its contents were not checked",
            "restore it from a copy, or run the job that writes it again",
            {"file": file, "reason": trouble},
        )


@check("missing-weights", "tested weights that are missing")
def gone_weights(model: Model) -> Iterator[Outcome]:
    """Find a model to be stored and tested whose weights are missing."""
    kept = model.settings.get("save_weights")
    if not model.settings and model.weights_written is None:
        yield Gap("provenance.json is missing, so it is unknown whether the weights were saved")
    if kept is True and model.weights_written is None and (model.tests or model.scoreless):
        yield Finding(
            WARNING,  # the figures stay right, but cannot be reproduced
            "the weights were saved and tested, but are missing",
            "restore checkpoints/best.pt, or train again",
            {"tests": len(model.tests) + len(model.scoreless)},
        )


@check("missing-scores", "fewer scores than images")
def missing_scores(model: Model) -> Iterator[Outcome]:
    """Find tests whose scores are missing, or fewer than the images in the split's list."""
    if model.scoreless:
        yield Finding(
            FAULT,
            "tests have metrics, but their score files are missing",
            "restore the files, or test again",
            {
                "tests without scores": len(model.scoreless),
                "such as": model.scoreless[0],
            },
        )
    if not model.tests and not model.scoreless:
        yield Gap(UNTESTED)
    if model.tests and all(test.scores is None for test in model.tests):
        yield Gap("no score file can be read. Test again.")
    for test in model.tests:
        if test.scores is None:
            continue
        there = len(test.scores)
        tested, left_out = (
            read_number(test.metrics, "n"),
            read_number(test.metrics, "bad_images") or 0,
        )
        if tested is not None and tested != there:
            yield _missing_scores_finding(
                test, {"scores": there, "images in the metrics": int(tested)}
            )
        elif test.expected is None:
            if tested is None:
                yield Gap("neither the metrics nor a test list contain the number of images")
        elif there + left_out < test.expected:
            yield _missing_scores_finding(
                test,
                {
                    "scores": there,
                    "left out as bad": int(left_out),
                    "images in the test list": test.expected,
                },
            )


@check("edited-scores", "scores changed after their test")
def edited_scores(model: Model) -> Iterator[Outcome]:
    """Find score files whose numbers differ from those that their test recorded."""
    if not model.tests:
        yield Gap(UNTESTED)
    for test in model.tests:
        if test.scores is None or not np.isfinite(test.scores.margin).all():
            continue
        if read_number(test.metrics, "accuracy") is None:
            yield Gap(f"the metrics of {test.data} do not contain the accuracy. Test again.")
        elif read_number(test.metrics, "n") not in {None, len(test.scores)}:
            continue  # scores are missing, which another check finds
        elif edit := describe_edit(test.metrics, test.scores):
            yield Finding(
                FAULT,
                f"the score file of {test.data} was changed after the test",
                "test again, because tables are computed from the score file",
                {"data": test.data, "difference": edit},
            )


@check("other-preprocessing", "a test with other preprocessing")
def other_reading(model: Model) -> Iterator[Outcome]:
    """Find a test that read images otherwise than the training did."""
    train_settings = model.settings
    if not train_settings:
        yield Gap("provenance.json is missing, so the preprocessing of the training is unknown")
        return
    if not model.tests:
        yield Gap(UNTESTED)
    for test in model.tests:
        if "preprocessing" in test.metrics:  # a published model brings its own
            continue
        test_settings = read_mapping(test.metrics, "settings", test.metrics)
        pairs = {
            key: (train_settings.get(key), test_settings.get(key))
            for key in _input_settings(train_settings, test_settings)
        }
        if not any(None not in pair for pair in pairs.values()):
            yield Gap(f"the metrics of {test.data} do not contain the preprocessing. Test again.")
        other = {
            key: f"{then} in the training, {now} in the test"
            for key, (then, now) in pairs.items()
            if then is not None and now is not None and then != now
        }
        if other:
            yield Finding(
                FAULT if other.keys() & {"decode", "resize_size"} else WARNING,
                f"the test on {test.data} preprocessed images differently from the training",
                "test again with the settings of the training",
                other,
            )


@check("stale-scores", "scores older than the weights")
def stale_scores(model: Model) -> Iterator[Outcome]:
    """Find scores that are older than the weights of their model."""
    outdated = [
        test.data for test in model.tests if is_of_earlier_weights(test.metrics, model.provenance)
    ]
    if outdated:
        yield Finding(
            FAULT,
            "scores are of earlier weights: temperature and threshold of the test are not those of the model",
            "test again",
            {"score files": len(outdated), "of": len(model.tests), "such as": outdated[0]},
        )
        return
    written = model.weights_written
    if written is None:
        yield Gap("checkpoints/best.pt is missing")
        return
    if not any(test.written is not None for test in model.tests):
        yield Gap(UNTESTED)
    old = [
        (test.data, test.written)
        for test in model.tests
        if test.written is not None and test.written < written - SLACK_S
    ]
    if old:
        yield Finding(
            WARNING,
            "scores are older than the weights, so they may be from an earlier training",
            "test again (copying files can also change their times)",
            {
                "score files": len(old),
                "of": len(model.tests),
                "older by up to, s": round(max(written - then for _, then in old), 1),
                "such as": old[0][0],
            },
        )


@check("other-weights", "weights older or newer than their provenance")
def other_weights(model: Model) -> Iterator[Outcome]:
    """Find weights that were written at another time than their records."""
    weights, provenance = model.weights_written, model.provenance_written
    if weights is None or provenance is None:
        missing = "checkpoints/best.pt" if weights is None else "provenance.json"
        yield Gap(f"{missing} is missing")
    elif abs(weights - provenance) > WRITING_S:
        yield Finding(
            WARNING,
            f"the weights are {'newer' if weights > provenance else 'older'} than provenance.json, "
            "which may be from another training",
            "train again, or restore weights and provenance of the same training",
            {"apart by, s": round(abs(weights - provenance), 1)},
        )


def _missing_scores_finding(test: AuditedTest, evidence: Evidence) -> Finding:
    return Finding(
        WARNING,
        f"test {test.data} has fewer scores than images",
        "find the missing images on the disk, and test again",
        evidence,
    )


def _input_settings(
    train_settings: Mapping[str, Json], test_settings: Mapping[str, Json]
) -> tuple[str, ...]:
    """Return the settings that determine the input images of a validation and a test."""
    patches = any(
        (read_number(settings, "test_crops") or 0) > 0
        for settings in (train_settings, test_settings)
    )
    if not patches:  # training patches are not part of the validation
        return ("decode", "resize_size")
    scaled = {train_settings.get("decode"), test_settings.get("decode")} & {"scaled", "fitted"}
    return ("decode", "test_crops", "patch_size", *(("resize_size",) if scaled else ()))
