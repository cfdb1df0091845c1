"""How often the laboratory's 95 % intervals hold the truth: simulated test sets of few sources.

python -m benchmarks.coverage [--rounds N] [--images 60] [--sources 3] …

A model's logit of an image is normal; each source moves it, all its images alike, by a draw of its
own. The truth is each measure over endlessly many sources (of a class of one source: over endlessly
many images of this one). With 1,000 rounds a coverage of 95 % is measured to ±1.4 points.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import click
import numpy as np

from launcher.screens.text_table import columns
from trueface.evaluation.curves import Labels
from trueface.evaluation.intervals import (
    Floats,
    IntervalEstimate,
    interval,
    jackknife_design,
    resamples,
)
from trueface.evaluation.measurement import METRICS, source_intervals
from trueface.evaluation.metric import resampled_values
from trueface.evaluation.weighted_scores import ScoreTable

APART = 1.0  # how far the mean of either class lies from the threshold: an accuracy of 84 %
STRETCH = 1.6  # of logits: a model that is a little too unsure of itself
ENDLESS = 400_000  # images of either class that stand for the population
LEAST, MOST = 92.0, 98.0  # the coverage that is wanted, from three sources on
SHOWN = ("accuracy", "balanced_accuracy", "f1", "auc", "ap", "eer", "tpr_at_1fpr", "ece", "loss")
AT_LEAST = frozenset({"ece", "tpr_at_1fpr"})  # wide rather than narrow, as their pages say


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Distribution that test sets are drawn from."""

    real: tuple[int, ...]  # images of each source
    fake: tuple[int, ...]
    spread: float  # standard deviation of the accuracy between sources

    @property
    def name(self) -> str:
        """What to call it in a table."""
        sides = (
            f"{len(side)} × {side[0]:,}"
            if len(set(side)) == 1
            else f"{len(side)} of {min(side)} to {max(side):,}"
            for side in (self.real, self.fake)
        )
        return " + ".join(sides)

    def moves(self, side: Sequence[int]) -> float:
        """Return the standard deviation between sources on the scale before the stretch."""
        return self.spread / NormalDist().pdf(APART) if len(side) > 1 else 0.0


def settings(
    sources: Sequence[int], images: Sequence[int], spreads: Sequence[float]
) -> Iterator[Setting]:
    """Yield all that is simulated: equal numbers, a class of few beside one of many, unequal sizes."""
    for spread in spreads:
        for count in images:
            for k in sources:
                yield Setting(real=(count,) * k, fake=(count,) * k, spread=spread)
            yield Setting(real=(count,) * 3, fake=(count,), spread=spread)
            yield Setting(real=(count,) * 3, fake=(count,) * 20, spread=spread)
        yield Setting(real=(60, 300, 1000), fake=(60, 100, 300, 600, 1000), spread=spread)


def truth(setting: Setting) -> dict[str, float]:
    """Return the measures over the population, classes in the shares of the test set."""
    random = np.random.default_rng(1)
    labels = np.repeat(np.array([0, 1], np.int8), ENDLESS)
    sides = (setting.real, setting.fake)
    logits = np.concatenate(
        [
            sign * APART + np.hypot(1.0, setting.moves(side)) * random.normal(size=ENDLESS)
            for sign, side in zip((-1, 1), sides, strict=True)
        ]
    )
    shares = np.array([[sum(setting.real), sum(setting.fake)]]) / (ENDLESS / 100)
    once = np.ones((1, len(labels)), np.uint8)
    table = ScoreTable(labels=labels, logits=STRETCH * logits)
    whole = resampled_values(tuple(METRICS.values()), table, once, shares)
    return {name: float(value[0]) for name, value in whole.items()}


def drawn(setting: Setting, random: np.random.Generator) -> tuple[Labels, Floats, list[str]]:
    """Return labels, logits and keys of one test set."""
    labels, logits, keys = [], [], []
    for label, side in enumerate((setting.real, setting.fake)):
        for source, count in enumerate(side):
            middle = (2 * label - 1) * APART + setting.moves(side) * random.normal()
            labels.append(np.full(count, label, np.int8))
            logits.append(middle + random.normal(size=count))
            keys += [f"{label}{source}/{number}" for number in range(count)]
    return np.concatenate(labels), STRETCH * np.concatenate(logits), keys


def intervals(
    labels: Labels, logits: Floats, keys: Sequence[str], seed: int
) -> dict[str, IntervalEstimate]:
    """Return the intervals over sources, as `measurement.evaluate_with_resamples` does.

    Only the EER has an interval over images, because no other metric uses one here.
    """
    of, table = jackknife_design(keys, labels, seed), ScoreTable(labels=labels, logits=logits)
    left = resampled_values(tuple(METRICS.values()), table, of.weights, of.scale)
    points = {name: float(value[0]) for name, value in left.items()}
    by_images = {name: IntervalEstimate(value=at, low=at, high=at) for name, at in points.items()}
    spread = resampled_values([METRICS["eer"]], table, resamples(keys, labels, seed))
    by_images["eer"] = interval(points["eer"], spread["eer"])
    return source_intervals(by_images, table, of, left)


def coverage(setting: Setting, rounds: int, seed: int) -> dict[str, float]:
    """Return how often each measure's interval holds the truth, in percent."""
    random = np.random.default_rng(seed)
    true = truth(setting)
    held = dict.fromkeys(METRICS, 0)
    for number in range(rounds):
        for name, one in intervals(*drawn(setting, random), number).items():
            held[name] += one.low <= true[name] <= one.high
    return {name: 100 * count / rounds for name, count in held.items()}


def outside(setting: Setting, found: dict[str, float], rounds: int) -> list[str]:
    """Return the measures that miss what is wanted by more than chance makes of so many rounds."""
    if min(len(setting.real), len(setting.fake)) == 2:
        return []
    chance = 200 * (0.95 * 0.05 / rounds) ** 0.5
    return [
        name
        for name in SHOWN
        if found[name] < LEAST - chance or (found[name] > MOST + chance and name not in AT_LEAST)
    ]


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--sources", type=int, multiple=True, default=(1, 2, 3, 5, 20), show_default=True)
@click.option("--images", type=int, multiple=True, default=(60, 300, 1000), show_default=True)
@click.option(
    "--spread", type=float, multiple=True, default=(0.0, 0.03, 0.06, 0.1), show_default=True
)
@click.option("--seed", type=int, default=0, show_default=True)
def main(
    rounds: int,
    sources: tuple[int, ...],
    images: tuple[int, ...],
    spread: tuple[float, ...],
    seed: int,
) -> None:
    """Print the coverage of nominal 95 % intervals in percent, one row a setting."""
    rows: list[tuple[str, ...]] = [
        ("real + fake sources × images", "sd", *SHOWN, f"not within {LEAST:.0f} to {MOST:.0f}")
    ]
    for one in settings(sources, images, spread):
        found = coverage(one, rounds, seed)
        cells = (f"{found[name]:.1f}" for name in SHOWN)
        rows.append((one.name, f"{one.spread:g}", *cells, ", ".join(outside(one, found, rounds))))
        print("  ".join(rows[-1]), file=sys.stderr, flush=True)
    print(f"nominal 95 %, {rounds} rounds a row, seed {seed}")
    print("\n".join(columns(rows, right=frozenset(range(1, 2 + len(SHOWN))))))


if __name__ == "__main__":
    main()
