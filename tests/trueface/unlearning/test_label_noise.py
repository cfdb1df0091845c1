from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import nn

from launcher.api import JobError
from trueface.data.examples import CostCounter, Examples, examples
from trueface.runtime.progress import RunContext
from trueface.unlearning.cache import Cache
from trueface.unlearning.confident_learning import (
    apply_confident_learning,
    label_transitions,
    true_label_posterior,
)
from trueface.unlearning.label_noise import Findings, doubt, find_flipped_labels, score_findings
from trueface.unlearning.record import NoiseSearchResult

torch.set_num_threads(1)


@dataclass(frozen=True)
class Hidden:
    """Features with some wrong labels."""

    model: nn.Module
    retain: Examples
    known: Examples
    wrong: tuple[int, ...] = ()  # places in `retain`

    def find(
        self,
        *,
        watch: RunContext | None = None,
        seed: int = 0,
        cache: Cache | None = None,
        ids: Sequence[str] = (),
        flipped_ids: Sequence[str] = (),
        known: float = 0.0,
    ) -> Findings:
        """Search for the flipped labels."""
        kept = cache or Cache(None, CostCounter())
        return find_flipped_labels(
            self.model,
            self.retain,
            self.known,
            cache=kept,
            watch=watch or RunContext(),
            seed=seed,
            ids=ids,
            flipped_ids=flipped_ids,
            known_fraction=known,
        )


def gaussians(
    separable: float,
    *,
    rate: float = 0.1,
    count: int = 1000,
    width: int = 64,
    classes: int = 2,
    known: int = 40,
    one_way: bool = False,
    seed: int = 1,
) -> Hidden:
    """Return Gaussian classes; a line separates two of them with an accuracy of `separable`."""
    rng = np.random.default_rng(seed)
    true = np.arange(count + known) % classes
    features = rng.standard_normal((count + known, width))
    features[np.arange(count + known), true] += 2**0.5 * NormalDist().inv_cdf(separable)
    wrong = rng.random(count + known) < (rate * 2 * true if one_way else rate)
    wrong[count:] = True
    trained = np.where(wrong, (true + 1) % classes, true)
    torch.manual_seed(0)
    model = nn.Linear(width, 1 if classes == 2 else classes).eval()
    everything = examples(
        torch.tensor(features, dtype=torch.float32), trained.tolist(), true.tolist()
    )
    return Hidden(
        model=model,
        retain=everything.subset(range(count)),
        known=everything.subset(range(count, count + known)),
        wrong=tuple(np.flatnonzero(wrong[:count]).tolist()),
    )


def precision_and_recall(hidden: Hidden, findings: Findings) -> tuple[float, float]:
    """Return precision and recall."""
    found = score_findings(findings.rows, hidden.wrong)
    assert found.precision is not None
    assert found.recall is not None
    return found.precision, found.recall


@pytest.mark.parametrize(
    ("separable", "one_way"),
    [(0.95, False), (0.995, False), (0.95, True)],
)
def test_most_hidden_flips_are_found_if_classes_are_linearly_separable(
    separable: float, one_way: bool
) -> None:
    some = [gaussians(separable, width=16, one_way=one_way, seed=seed) for seed in range(2)]
    found = [hidden.find() for hidden in some]
    precision, recall = np.mean([*map(precision_and_recall, some, found)], axis=0)
    assert precision >= 0.8
    assert recall >= 0.8
    for hidden, findings in zip(some, found, strict=True):
        assert findings.noise == pytest.approx(len(hidden.wrong) / 1000, abs=0.04)


def test_warning_says_that_weak_features_make_mistakes_flipped_labels() -> None:
    hidden = gaussians(0.75, width=16, rate=0.07)
    unknown, known = hidden.find(), hidden.find(known=40 / (40 + len(hidden.wrong)))
    assert unknown.rows == known.rows
    assert precision_and_recall(hidden, known)[0] <= 0.3
    assert known.flips == pytest.approx(len(hidden.wrong))
    assert "of the flagged labels are right as they are" in doubt(known)
    assert (unknown.flips, unknown.precision) == (None, None)
    assert "no flipped label is known, so the precision is unknown" in doubt(unknown)


@pytest.mark.parametrize(
    ("separable", "width", "least", "most"), [(0.9, 64, 0.4, 0.9), (0.995, 16, 0.8, 1.0)]
)
def test_known_flips_give_the_expected_precision_and_classes_that_overlap_a_lower_recall(
    separable: float, width: int, least: float, most: float
) -> None:
    some = [gaussians(separable, width=width, seed=seed) for seed in range(4)]
    found = [hidden.find(known=40 / (40 + len(hidden.wrong))) for hidden in some]
    precision, recall = np.mean([*map(precision_and_recall, some, found)], axis=0)
    # with 160 known flips and a precision of 0.7, the standard error is 0.04
    assert np.mean([each.precision for each in found]) == pytest.approx(precision, abs=0.1)
    assert not any(map(doubt, found))
    assert precision >= 0.6
    assert least <= recall <= most


def test_known_flip_is_not_judged_by_a_regression_that_learned_from_its_other_copy() -> None:
    hidden = gaussians(0.75, count=400)
    known = hidden.known
    copies = examples(
        torch.cat([batch.inputs for batch in known.read(RunContext())]), known.true or ()
    )
    many = replace(
        hidden,
        retain=examples(
            torch.cat(
                [
                    batch.inputs
                    for part in (hidden.retain, copies)
                    for batch in part.read(RunContext())
                ]
            ),
            (*hidden.retain.trained, *copies.trained),
        ),
    )
    ids = [*(f"a:faces/{row}" for row in range(400)), *(f"a:known/{row}" for row in range(40))]
    share = 40 / (40 + len(hidden.wrong))
    joint = many.find(ids=ids, flipped_ids=[f"b:known/{row}" for row in range(40)], known=share)
    apart = many.find(ids=ids, flipped_ids=[f"b:other/{row}" for row in range(40)], known=share)
    assert joint.rows == apart.rows
    assert joint.precision == pytest.approx(hidden.find(known=share).precision, abs=0.02)
    assert apart.precision is not None
    assert joint.precision is not None
    assert apart.precision > joint.precision + 0.03


@pytest.mark.parametrize(
    ("flips", "precision", "rows", "reason"),
    [
        (40.0, 0.9, (1, 2), ""),
        (40.0, 0.2, (1, 2), "an estimated 80% of the flagged labels are right"),
        (40.0, None, (), "about 40 labels are flipped, but the features do not show which"),
        (40.0, None, (1,), "the precision is unknown, because fewer than two images"),
        (0.0, None, (), ""),
        (None, None, (), ""),
    ],
)
def test_doubt_is_about_what_known_flips_show(
    flips: float | None, precision: float | None, rows: tuple[int, ...], reason: str
) -> None:
    findings = Findings(
        rows=rows, suggested=rows, noise=0.1, read=9, flips=flips, precision=precision
    )
    assert doubt(findings).startswith(reason)
    assert bool(doubt(findings)) is bool(reason)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_copies_of_images_hide_no_flips(noise: float) -> None:
    once = gaussians(0.995, width=16, count=600, known=0)
    rng = torch.Generator().manual_seed(0)
    inputs = torch.cat([batch.inputs for batch in once.retain.read(RunContext())])
    copies = [inputs + noise * torch.randn(inputs.shape, generator=rng) for _ in range(3)]
    many = replace(
        once,
        retain=examples(torch.cat(copies), once.retain.trained * 3),
        wrong=tuple(row + 600 * copy for copy in range(3) for row in once.wrong),
    )
    ids = [f"net{copy}:faces/{row}" for copy in range(3) for row in range(600)]
    precision, recall = precision_and_recall(many, many.find(ids=ids))
    assert precision >= 0.85
    assert recall >= 0.9
    assert precision_and_recall(many, many.find())[1] < recall


def test_copies_of_an_image_count_once_against_the_fewest() -> None:
    hidden = gaussians(0.98, rate=0.0, count=40, known=0)
    ids = [f"net{row // 8}:faces/{row % 8}" for row in range(40)]
    with pytest.raises(JobError, match="4 images of class 0 were searched, but each of 2"):
        hidden.find(ids=ids)


def test_almost_no_right_label_is_flagged() -> None:
    hidden = gaussians(0.98, rate=0.0)
    found = hidden.find().rows
    assert len(found) <= 20
    assert score_findings(found, hidden.wrong).recall is None


def test_suggestions_are_other_classes_and_right_where_the_flag_is_right() -> None:
    hidden = gaussians(0.98, width=16, classes=4, count=1200)
    found = hidden.find()
    true = hidden.retain.labels("true")
    precision, recall = precision_and_recall(hidden, found)
    assert min(precision, recall) >= 0.8
    assert all(
        label != hidden.retain.trained[row]
        for row, label in zip(found.rows, found.suggested, strict=True)
    )
    said = dict(zip(found.rows, found.suggested, strict=True))
    right = [said[row] == true[row] for row in hidden.wrong if row in said]
    assert sum(right) >= 0.95 * len(right)


def test_true_labels_of_searched_samples_are_not_used() -> None:
    hidden = gaussians(0.98, width=16)
    blind = replace(hidden, retain=replace(hidden.retain, true=None))
    assert blind.find() == hidden.find()
    alone = replace(blind, known=examples(torch.zeros(0, 16), ()))
    assert min(precision_and_recall(hidden, alone.find())) >= 0.75


def test_constant_feature_is_harmless() -> None:
    inputs = torch.cat([torch.ones(60, 1), torch.arange(60.0)[:, None] % 2], 1)
    labels = [int(row[1]) for row in inputs]
    labels[4] = 1 - labels[4]
    hidden = Hidden(nn.Linear(2, 1), examples(inputs, labels), examples(inputs[:0], ()))
    assert hidden.find().rows == (4,)


def test_thresholds_are_the_mean_confidence_of_each_class() -> None:
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9], [0.4, 0.6], [0.2, 0.8]])
    labels = np.array([0, 0, 0, 1, 1])
    likely, noise = apply_confident_learning(probabilities, labels)
    # class 0 is likely from 0.567 on, class 1 from 0.7 on; the fourth is sure of neither
    assert likely.tolist() == [0, 0, 1, 1, 1]
    assert noise == pytest.approx(0.6 * 1 / 3)


def test_flagged_label_needs_a_better_explanation_by_another_class() -> None:
    labels = np.array([0] * 10 + [1] * 10)
    likely = np.array([1, *[0] * 9, *[1] * 10])
    probabilities = np.tile([0.3, 0.7], (20, 1))
    posterior = true_label_posterior(probabilities, labels, label_transitions(labels, likely, 2))
    assert posterior.sum(1) == pytest.approx(np.ones(20))
    assert posterior[0, 1] < 0.5 < 0.7 < posterior[15, 1]


def test_meaningless_fractions_are_none() -> None:
    assert score_findings((1, 2, 3), (3, 4)) == NoiseSearchResult(flagged=3, hidden=2, right=1)
    assert score_findings((), (1,)).precision is None
    assert score_findings((1,), ()).recall is None


def labels_without_a_class() -> Hidden:
    """Return labels without one class."""
    hidden = gaussians(0.98)
    ones = [row for row, label in enumerate(hidden.retain.trained) if label]
    return replace(hidden, retain=hidden.retain.subset(ones))


def model_with_nan_outputs() -> Hidden:
    """Return a model with NaN outputs."""
    body = nn.Linear(64, 8)
    nn.init.constant_(body.weight, float("nan"))
    return replace(gaussians(0.98), model=nn.Sequential(body, nn.Linear(8, 1)).eval())


@pytest.mark.parametrize(
    ("hidden", "match"),
    [
        *(
            (partial(gaussians, separable, rate=rate), r"estimated (4|5|6)\d% of 1000 labels are wrong")
            for separable, rate in ((0.995, 0.5), (0.5, 0.1), (0.98, 0.45))
        ),
        (labels_without_a_class, "0 images of class 0 "),
        (
            partial(gaussians, 0.98, rate=0.0, count=19, known=0),
            "9 images of class 1 were searched, but each of 2",
        ),
        (model_with_nan_outputs, "so it cannot be split into backbone and head"),
    ],
)  # fmt: skip
def test_uninformative_labels_are_rejected(hidden: Callable[[], Hidden], match: str) -> None:
    with pytest.raises(JobError, match=match):
        hidden().find()


def test_search_can_be_stopped() -> None:
    watch = RunContext()
    watch.stop.set()
    with pytest.raises(JobError, match="stopped"):
        gaussians(0.98).find(watch=watch)
