"""Search for flipped labels in the retain set, by confident learning, round by round.

The statistics are those of confident learning, applied to out-of-fold probabilities of a logistic
regression on the model's standardized features. All copies of an image are in one fold. A threshold at the mean misses a quarter of the flipped
labels even if classes are far apart. Therefore flagged labels are corrected and the regression is fitted
again, `ROUNDS` times. Its out-of-fold probabilities are calibrated. A label is flagged if another class
explains it better.

Precision and recall on two Gaussian classes of 64 features, 1000 samples, 10 % of the labels flipped,
means of four draws. The first row is confident learning alone, the second is the final result. "One way"
means flips in one direction. Columns are the accuracy of the best linear separation.

    separation           90 %           95 %           98 %           99.5 %

    at first             0.68, 0.68     0.86, 0.72     0.96, 0.75     0.99, 0.79
    in the end           0.69, 0.75     0.81, 0.85     0.92, 0.91     0.99, 0.98

    one way, at first                   0.79, 0.58     0.89, 0.60     0.96, 0.60
    one way, in the end                 0.92, 0.81     0.97, 0.90     1.00, 0.93

The limit: if classes overlap, a flipped label near the border looks like a true one of the other class.
At 10 % flipped labels and a precision of 0.80, the best rule has a recall of 0.69 at a separation of
90 %. It has 0.91 at 95 % and 0.99 at 98 %. With fewer flipped labels recall is lower. Few samples of many
features are as bad as an overlap, because the fitted line is not the best one. From about 40 % on, no
rule can decide which of two classes is the true one, and such labels are rejected.

Features come from the model as it is. A network that was trained whole may have memorised flipped
labels: their features then lie with the class of their label, and they are not found. A frozen body
has seen no label, and a short training has memorised few.

Source: C. Northcutt, L. Jiang and I. Chuang, "Confident learning", JAIR 70 (2021), arXiv 1911.00068,
section 3. The threshold of a class is the mean probability of the samples with that label (eq. 2). The
likely class of a sample is the most probable one among those that reach their thresholds. The label is
flagged if it differs from the likely class.

`true_label_posterior` is not from the paper: a label is flagged if another class explains it better, by
p(true class | x) p(label | true class). The second factor comes from the counts of the previous round.

A regression on weak features is wrong more often than labels are. Confident learning takes its mistakes for
flipped labels, and the next rounds confirm them. On 1,492 re-shared faces with 7 % of flipped labels
(squeezenet, 112 pixels), 484 labels were flagged in the mean of five draws, 76 of them right. The known
flipped labels show that before the labels are used.

The expected precision is the recall of the known flips times the number of flips, divided by the number of
flagged labels. Each known flip is judged by regressions that did not learn from its image.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it tells no types
from torch import nn

from trueface.data.examples import Examples
from trueface.models.logits import BackboneHeadSplit
from trueface.runtime.errors import JobError
from trueface.runtime.progress import RunContext
from trueface.runtime.rng import seeded_numpy_rng, stream_seed
from trueface.runtime.timer import now
from trueface.unlearning.cache import Cache, fingerprint
from trueface.unlearning.confident_learning import (
    TINY,
    Classes,
    Floats,
    apply_confident_learning,
    calibrate_probabilities,
    fit_logistic_regression,
    label_transitions,
    true_label_posterior,
)
from trueface.unlearning.image_copies import Groups, first_rows, group_copies
from trueface.unlearning.record import NoiseSearchResult
from trueface.unlearning.registry import TOO_NOISY

FOLDS = 5  # as the authors
ROUNDS = 8  # then one-way flips are found as well as two-way ones, which need four
FEWEST = 10  # images a class: two a fold
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # inverse penalties, the best is taken
DOUBTFUL = 0.5  # expected precision below which most corrections are wrong
SEARCHED = 4000  # samples that the best penalty is searched on


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Which labels are likely flipped."""

    rows: tuple[int, ...]  # positions in the searched samples, rising
    suggested: tuple[int, ...]  # the likely class of each
    noise: float  # estimated fraction of flipped labels, in 0 … 1
    read: int  # samples that were judged; the others could not be read
    flips: float | None = None  # flipped labels by the known sample. None: no sample
    precision: float | None = None  # expected, in 0 … 1. None: no sample, or none was flagged
    # time of the expected precision, which an unlearning does not need
    judging_seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Samples:
    """The training data of the regression."""

    features: NDArray[np.float32]  # (N, F) standardised, of those that are judged
    labels: Classes  # (N,) as trained
    groups: Groups  # (N,) image of each
    sure_features: NDArray[np.float32]  # (M, F) of those whose class is known
    sure_labels: Classes  # (M,)
    sure_trained: Classes  # (M,) as trained
    sure_groups: Groups  # (M,) image of each, with the numbers of `groups`
    flips: float | None  # number of flipped labels. None if unknown
    classes: int
    seed: int


def find_flipped_labels(
    model: nn.Module,
    retain: Examples,
    flipped_examples: Examples,
    *,
    cache: Cache,
    watch: RunContext,
    seed: int,
    ids: Sequence[str] = (),
    flipped_ids: Sequence[str] = (),
    known_fraction: float = 0.0,
) -> Findings:
    """Look for flipped labels in `retain`, whose true ones are not used.

    Args:
        model: on the device of `watch`; it is left in evaluation mode.
        retain: samples of which a fraction of the trained labels are flipped.
        flipped_examples: samples whose labels are known to be flipped; where their true ones are known, the
            regression learns from them as well. May be empty.
        cache: keeps the features.
        watch: device, precision, stop.
        seed: of the folds.
        ids: ID of each sample of `retain`, which shows the copies of an image. Without IDs, there are none.
        flipped_ids: ID of each sample of `flipped_examples`.
        known_fraction: fraction of all flipped labels that are in `flipped_examples`, in 0 … 1. 0 if unknown: then the
            precision to expect is unknown, too.

    Raises:
        JobError: a class is missing or has too few samples, more labels seem to be flipped than can
            be found, or it was stopped.
    """
    classes = max(2, BackboneHeadSplit(model).head.out_features)
    # numbered together, because a copy of a known image may be in the retain set
    groups, sure_groups = np.split(
        group_copies(
            [
                *(ids or [f"retain {row}" for row in range(len(retain))]),
                *(flipped_ids or [f"flipped {row}" for row in range(len(flipped_examples))]),
            ]
        ),
        [len(retain)],
    )
    _refuse_few(np.array(retain.trained, np.int64), groups, classes, "were searched")
    features, rows = _features(model, retain, cache, watch)
    labels = np.array(retain.trained, np.int64)[rows]
    _refuse_few(labels, groups[rows], classes, "could be read")
    sure = flipped_examples if flipped_examples.true is not None else flipped_examples.subset([])
    sure_features, sure_rows = _features(model, sure, cache, watch)
    mean, scale = features.mean(0), features.std(0)
    scale[scale < TINY] = 1.0
    flips = (
        len(flipped_examples) * (1 - known_fraction) / known_fraction
        if known_fraction and len(flipped_examples)
        else None
    )
    samples = _Samples(
        features=(features - mean) / scale,
        labels=labels,
        groups=groups[rows],
        sure_features=((sure_features.reshape(-1, features.shape[1]) - mean) / scale),
        sure_labels=np.array(sure.true or (), np.int64)[sure_rows],
        sure_trained=np.array(sure.trained, np.int64)[sure_rows],
        sure_groups=sure_groups[sure_rows],
        flips=flips,
        classes=classes,
        seed=stream_seed("find", seed) % 2**32,  # as scikit-learn takes it
    )
    with threadpool_limits(torch.get_num_threads()):  # NumPy's would take every core there is
        likely, noise, recall, judging_seconds = _estimate_true_labels(samples, watch)
    flagged = np.flatnonzero(likely != labels)
    order = flagged[np.argsort(rows[flagged])]
    return Findings(
        rows=tuple(rows[order].tolist()),
        suggested=tuple(likely[order].tolist()),
        noise=noise,
        read=len(rows),
        flips=flips,
        precision=None
        if recall is None or flips is None or not len(flagged)
        else min(1.0, recall * flips / len(flagged)),
        judging_seconds=judging_seconds,
    )


def score_findings(rows: Collection[int], flipped_rows: Collection[int]) -> NoiseSearchResult:
    """Return precision and recall of a search for flipped labels, where these are known.

    Args:
        rows: places that were flagged.
        flipped_rows: places of all flipped labels.
    """
    flagged, flipped = set(rows), set(flipped_rows)
    return NoiseSearchResult(
        flagged=len(flagged), hidden=len(flipped), right=len(flagged & flipped)
    )


def doubt(findings: Findings, *, known_fraction: float = 0.0) -> str:
    """Return why the outcome of a search helps little, and what to do; "" if nothing is known against it.

    Args:
        findings: the outcome.
        known_fraction: the requested fraction of known flips, of which none may have been drawn.
    """
    remedy = "start from a model with better features, or set find: false"
    match findings:
        case Findings(flips=None, rows=(_, *_)) if known_fraction:
            return (
                "no flipped label was drawn, so the precision is unknown. Increase known, or check some "
                "of the flagged labels"
            )
        case Findings(flips=None, rows=(_, *_)):
            return (
                "no flipped label is known, so the precision is unknown. Set known above 0, or check "
                "some of the flagged labels"
            )
        case Findings(precision=None, rows=(_, *_)):
            return (
                "the precision is unknown, because fewer than two images of known flips could be judged, or "
                "nearly all labels of a class were flagged. Increase known, or check some of the flagged labels"
            )
        case Findings(flips=float(flips), rows=()) if flips >= 1:
            return (
                f"about {flips:.0f} labels are flipped, but the features do not show which. To find "
                f"them, {remedy}"
            )
        case Findings(precision=float(precision)) if precision < DOUBTFUL:
            return (
                f"an estimated {1 - precision:.0%} of the flagged labels are right as they are. To "
                f"flag fewer of these, {remedy}"
            )
    return ""


def _estimate_true_labels(
    samples: _Samples, watch: RunContext
) -> tuple[Classes, float, float | None, float]:
    """Return the likely classes (N,), the estimated fraction of flipped labels, the recall of known ones, and its seconds."""
    strength = _strength(samples, watch)
    predicted = _out_of_fold(samples, samples.labels, strength, watch)
    likely, noise = apply_confident_learning(predicted, samples.labels)
    _refuse_noise(noise, len(samples.labels))
    recall, seconds = None, 0.0
    for number in range(ROUNDS):
        counts = np.bincount(likely, minlength=samples.classes)
        # nearly every label of a class was flagged; too few samples to fit
        if counts.min() < FEWEST:
            break
        predicted = _out_of_fold(samples, likely, strength, watch)
        transitions = label_transitions(samples.labels, likely, samples.classes)
        posterior = true_label_posterior(
            calibrate_probabilities(predicted, likely), samples.labels, transitions
        )
        noise = float(1 - posterior[np.arange(len(likely)), samples.labels].mean())
        before, likely = likely, posterior.argmax(1)
        watch.progress(step=number + 1, total=ROUNDS, flagged=int((likely != samples.labels).sum()))
        is_last = number == ROUNDS - 1 or np.array_equal(before, likely)
        if is_last:
            began = now()
            recall = _recall_of_known(samples, before, predicted, strength, watch)
            seconds = now() - began
            break
    return likely, noise, recall, seconds


def _recall_of_known(
    samples: _Samples, target: Classes, probabilities: Floats, strength: float, watch: RunContext
) -> float | None:
    """Return the fraction of the known flips that the last round corrects without them. None of fewer than two."""
    images = np.unique(samples.sure_groups)
    if samples.flips is None or len(images) < 2:
        return None
    judged = np.zeros((len(samples.sure_labels), samples.classes))
    folds = KFold(min(FOLDS, len(images)), shuffle=True, random_state=samples.seed)
    for _, held_out in folds.split(images):
        watch.raise_if_stopped()
        is_judged = np.isin(samples.sure_groups, images[held_out])
        is_other = ~np.isin(samples.groups, images[held_out])  # no copy of a judged image
        features = np.concatenate([samples.features[is_other], samples.sure_features[~is_judged]])
        labels = np.concatenate([target[is_other], samples.sure_labels[~is_judged]])
        fitted = fit_logistic_regression(features, labels, strength)
        judged[np.ix_(is_judged, fitted.classes_)] = fitted.predict_proba(
            samples.sure_features[is_judged]
        )
    posterior = true_label_posterior(
        calibrate_probabilities(probabilities, target, judged),
        samples.sure_trained,
        label_transitions(samples.labels, target, samples.classes),
    )
    return float((posterior.argmax(1) == samples.sure_labels).mean())


def _strength(samples: _Samples, watch: RunContext) -> float:
    """Return the inverse penalty whose probabilities fit the given labels best, out of fold."""
    rng = seeded_numpy_rng(samples.seed)
    share = min(1.0, SEARCHED / len(samples.labels))
    labels = samples.labels[first_rows(samples.groups)]
    images = [np.flatnonzero(labels == label) for label in range(samples.classes)]
    taken = [
        rng.permutation(members)[: max(FEWEST, round(share * len(members)))] for members in images
    ]
    chosen = np.flatnonzero(np.isin(samples.groups, np.concatenate(taken)))
    subset = replace(
        samples,
        features=samples.features[chosen],
        labels=samples.labels[chosen],
        groups=samples.groups[chosen],
    )
    losses = []
    for strength in STRENGTHS:
        predicted = _out_of_fold(subset, subset.labels, strength, watch)
        losses.append(-np.log(predicted[np.arange(len(predicted)), subset.labels] + TINY).mean())
    return STRENGTHS[int(np.argmin(losses))]


def _out_of_fold(samples: _Samples, target: Classes, strength: float, watch: RunContext) -> Floats:
    """Return the probabilities (N, K) that regressions give to samples they did not learn from."""
    predicted = np.zeros((len(target), samples.classes))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=samples.seed)
    firsts = first_rows(samples.groups)
    images = samples.groups[firsts]
    for _, held_out in folds.split(images, samples.labels[firsts]):
        watch.raise_if_stopped()
        is_judged = np.isin(samples.groups, images[held_out])
        train_rows, test_rows = np.flatnonzero(~is_judged), np.flatnonzero(is_judged)
        features = np.concatenate([samples.features[train_rows], samples.sure_features])
        labels = np.concatenate([target[train_rows], samples.sure_labels])
        fitted = fit_logistic_regression(features, labels, strength)
        predicted[np.ix_(test_rows, fitted.classes_)] = fitted.predict_proba(
            samples.features[test_rows]
        )
    return predicted


def _features(
    model: nn.Module, examples: Examples, cache: Cache, watch: RunContext
) -> tuple[NDArray[np.float32], Classes]:
    """Return the features (N, F) of those that can be read, and their places (N,) in `some`."""
    if not len(examples):
        return np.zeros((0, 0), np.float32), np.zeros(0, np.int64)
    follows_from = (fingerprint(model.eval()), examples.identity, watch.precision)
    features, positions = cache.features("found_features", follows_from, model, examples, watch)
    places = {position: row for row, position in enumerate(examples.positions)}
    rows = np.array([places[int(position)] for position in positions], np.int64)
    return features.numpy(), rows


def _refuse_few(labels: Classes, groups: Groups, classes: int, noun: str) -> None:
    counts = np.bincount(labels[first_rows(groups)], minlength=classes)
    scarce = int(counts.argmin())
    if counts[scarce] < FEWEST:
        raise JobError(
            f"cannot search for flipped labels: {counts[scarce]} images of class {scarce} {noun}, but "
            f"each of {classes} classes needs {FEWEST}. Add data, or set find: false."
        )


def _refuse_noise(noise: float, count: int) -> None:
    if noise >= TOO_NOISY:
        raise JobError(
            f"cannot find the flipped labels: an estimated {noise:.0%} of {count} labels are wrong, or "
            f"the model's features do not separate the classes. The search works below "
            f"{TOO_NOISY:.0%}. Increase known, or start from a better model."
        )
