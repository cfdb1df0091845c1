"""Membership inference: can it be told from answers that samples were part of the training?

Three attacks as their papers run them. What each should say is not a fixed number but what it says
of a model that was retrained without the forgotten; only the attack on losses has an ideal, one
half. Members come from what is kept, others from the test (validation, where there is no test).
Where a class is forgotten, it is left out on both sides: else attacks learn to tell classes apart.
"""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.svm import SVC

from trueface.bootstrap import Floats
from trueface.streams import numpy_stream
from trueface.unlearn.answers import UNKNOWN, Answered
from trueface.unlearn.fitness import Goal
from trueface.unlearn.measures import (
    Classes,
    Parts,
    Sheet,
    Unmeasured,
    kept,
    log_probabilities,
    losses,
    right,
    rows,
    sheet,
    tested,
)

LEAST = 10  # samples of either side: an attack on fewer says nothing
CLIP = 400.0  # of losses, as SCRUB's code has it
FOLDS = 5
SHADOWS = 1000  # of either side for the SVC, whose time grows with the square
ASKED = 2000  # of the forgotten, for the SVC


def membership(
    parts: Parts, *, goal: Goal, forgotten: Collection[int] = (), seed: int = 0
) -> Sheet:
    """Return what three attacks say of a model's answers, each in 0 … 1.

    `mia_entropy` is the share of the forgotten that is taken for members, `mia_svc` the share that
    is taken for others, `mia_loss` how often members and others are told apart.

    Args:
        parts: its answers, all finite.
        goal: what was to be forgotten.
        forgotten: classes, for goal "class".
        seed: of what is drawn.
    """
    outside = kept(tested(parts), forgotten if goal == "class" else ())
    forget, retain = parts["forget"], parts["retain"]
    return sheet(
        {
            "mia_entropy": lambda: by_entropy(retain=retain, outside=outside, forget=forget),
            "mia_svc": lambda: by_confidence(
                retain=retain, outside=outside, forget=forget, seed=seed
            ),
            "mia_loss": lambda: by_loss(forget=forget, outside=tested(parts), seed=seed),
        }
    )


def by_entropy(*, retain: Answered, outside: Answered, forget: Answered) -> float:
    """Return the share of the forgotten that is taken for members by the entropy of answers.

    Raises:
        Unmeasured: too few samples, or nothing that differs.

    Source: V. Chundawat et al., "Can bad teaching induce forgetting?", AAAI 2023, arXiv
        2205.08096, section 5.1, and its code: a balanced logistic regression on the entropy.
    """
    values, member = _both(_entropy(retain), _entropy(outside))
    _need(forget)
    attack = LogisticRegression(class_weight="balanced", max_iter=1000).fit(values, member)
    return float(attack.predict(_entropy(forget)[:, None]).mean())


def by_confidence(*, retain: Answered, outside: Answered, forget: Answered, seed: int = 0) -> float:
    """Return the share of the forgotten that is taken for others by the trained label's confidence.

    Raises:
        Unmeasured: too few samples, or nothing that differs.

    Source: C. Fan et al., "SalUn", ICLR 2024, arXiv 2310.12508, appendix C.3, and its code: an SVC
        with C = 3 and gamma "auto". We draw at most 1,000 shadow samples of either side.
    """
    random = numpy_stream("membership/svc", seed)
    count = min(len(retain), len(outside), SHADOWS)
    members, others, asked = (
        _confidence(_drawn(part, most, random), labels)
        for part, most, labels in (
            (retain, count, "trained"), (outside, count, "right"), (forget, ASKED, "trained"),
        )
    )  # fmt: skip
    values, member = _both(members, others)
    _need(forget)
    attack = SVC(C=3, gamma="auto", kernel="rbf").fit(values, member)
    return 1 - float(attack.predict(asked[:, None]).mean())


def by_loss(*, forget: Answered, outside: Answered, seed: int = 0) -> float:
    """Return how often the forgotten are told from as many others of the same classes by loss.

    One half is ideal. Of wrong labels, others get labels that are wrong in the same way: else
    every sound model has a high loss on the forgotten, and a low one on the others.

    Raises:
        Unmeasured: too few others of these classes, or nothing that differs.

    Source: M. Kurmanji et al., "SCRUB", NeurIPS 2023, arXiv 2302.09880, section 5.3, and its code:
        logistic regression on losses clipped to ±400, five folds.
    """
    random = numpy_stream("membership/loss", seed)
    members, others, labels = _alike(forget, outside, random)
    if len(members) < LEAST:
        raise Unmeasured(
            f"there are {len(members)} samples of the forgotten classes outside the training, and "
            f"the attack needs {LEAST}"
        )
    first = losses(rows_at(forget, members), forget.trained[members])
    second = losses(rows_at(outside, others), labels)
    values, member = _both(first, second)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    attack = LogisticRegression(max_iter=1000)
    scores = cross_val_score(attack, np.clip(values, -CLIP, CLIP), member, cv=folds)
    return float(scores.mean())


def rows_at(part: Answered, places: NDArray[np.intp]) -> Answered:
    """Return rows of answers by place, in the order of the part."""
    chosen = np.zeros(len(part), np.bool_)
    chosen[places] = True
    return rows(part, chosen)


def _alike(
    forget: Answered, outside: Answered, random: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp], Classes]:
    """Return places of members, of as many others of the same true classes, and others' labels."""
    truth, classes = right(forget), right(outside)
    members, others, labels = [], [], np.full(len(outside), UNKNOWN)
    for true in np.unique(truth):
        pool = random.permutation(np.flatnonzero(classes == true))
        wanted = random.permutation(np.flatnonzero(truth == true))
        count = min(len(pool), len(wanted))
        members.append(wanted[:count])
        others.append(pool[:count])
        # of the same class, each other sample is given the label that a member was trained with
        labels[pool[:count]] = forget.trained[wanted[:count]]
    inside, beside = np.sort(np.concatenate(members)), np.sort(np.concatenate(others))
    return inside, beside, labels[beside]


def _both(members: Floats, others: Floats) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return one feature (N, 1) of both sides, and which are members (N,).

    Raises:
        Unmeasured: too few, or all alike.
    """
    if min(len(members), len(others)) < LEAST:
        raise Unmeasured(
            f"there are {len(members)} members and {len(others)} others, and the attack needs "
            f"{LEAST} of each"
        )
    values = np.concatenate([members, others])
    if not np.ptp(values) > 0:
        raise Unmeasured("the model answers all samples alike")
    member = np.repeat(np.array([1, 0]), [len(members), len(others)])
    return values[:, None], member


def _need(forget: Answered) -> None:
    if not len(forget):
        raise Unmeasured("nothing was forgotten")


def _entropy(part: Answered) -> Floats:
    logs = log_probabilities(part)
    entropy: Floats = -(np.exp(logs) * logs).sum(1)
    return entropy


def _confidence(part: Answered, which: str) -> Floats:
    labels = part.trained if which == "trained" else right(part)
    confidence: Floats = np.exp(-losses(part, labels))
    return confidence


def _drawn(part: Answered, most: int, random: np.random.Generator) -> Answered:
    if len(part) <= most:
        return part
    return rows_at(part, random.choice(len(part), most, replace=False))
