"""How many ruined models the alarms find, and how many honest ones they accuse.

CIFAR10=DIR python -m benchmarks.alarms [margins|ruins|noise]… --folder DIR

    margins: The distance of the honest models of the calibration seeds from each threshold.
    ruins: Ruins of the models of all other seeds, by type and degree, and false alarms over these models.
    noise: The rate at which pure noise is taken for a change, by the number of retrained models.

The models are detectors of the demo that unlearned a fifth and a half of wrong labels, with a frozen backbone
or without. Others are networks that unlearned a class of CIFAR-10; see `alarms_models`. Models stay in the
folder and are made only once.
"""

import logging
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.alarms_models import DESTROYING, detectors, networks
from benchmarks.alarms_ruins import ruins
from benchmarks.table import machine
from trueface.predictions.npz_tables import read_npz
from trueface.runtime import paths
from trueface.unlearning.evaluation import answer_comparison, sanity
from trueface.unlearning.evaluation.alarms import AlarmKind, noise
from trueface.unlearning.evaluation.measures import (
    PredictionsBySplit,
    retained_class_rows,
    unseen_predictions,
)
from trueface.unlearning.evaluation.model_measures import ANEW
from trueface.unlearning.evaluation.sanity import RUINED, find_alarms
from trueface.unlearning.evaluation.unlearned_models import (
    UnlearnedModel,
    find_unlearned_models,
    reference_model,
)
from trueface.unlearning.registry import Goal

Cells = Sequence[str]
CALIBRATION = (1, 2)  # seeds from whose honest models the thresholds of `ruin` keep their distance
DRAWS = 20_000  # draws of pure noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Honest:
    """An honest model and the predictions that it is compared with."""

    name: str
    seed: int
    goal: Goal
    forgotten: tuple[int, ...]
    parts: PredictionsBySplit
    before: PredictionsBySplit
    retrained: PredictionsBySplit | None
    anew: bool = False  # retraining and its like, and the model before: not compared with others


@dataclass(slots=True)
class Tally:
    """How many of how many."""

    hits: int = 0
    total: int = 0
    missed: list[str] = field(default_factory=list)

    def count(self, name: str, *, hit: bool) -> None:
        """Count one more."""
        self.hits, self.total = self.hits + hit, self.total + 1
        if not hit:
            self.missed.append(name)


def honest(run: Path) -> tuple[list[Honest], list[Honest]]:
    """Return the honest models of a run, and those that their method is known to ruin.

    A detector that learned labels of which half are wrong is neither: it may know something or not.
    """
    groups: dict[tuple[str, int], list[UnlearnedModel]] = defaultdict(list)
    for entry in find_unlearned_models(run)[0]:
        groups[entry.record.base, entry.record.seed].append(entry)
    good: list[Honest] = []
    bad: list[Honest] = []
    for entries in groups.values():
        first, anew = entries[0], reference_model(entries, "retrain")
        before = read_npz(paths.predictions_before(first.folder))
        retrained = None if anew is None else read_npz(paths.predictions_after(anew.folder))
        record = first.record
        if record.rate != 0.5:
            good.append(_honest(record.base, first, before, before, retrained, anew=True))
        for entry in entries:
            method, after = (
                entry.record.method,
                read_npz(paths.predictions_after(entry.folder)),
            )
            made = _honest(entry.record.model, entry, after, before, retrained, anew=method in ANEW)
            (bad if method in DESTROYING else good).append(made)
    return good, bad


def _honest(
    name: str,
    entry: UnlearnedModel,
    parts: PredictionsBySplit,
    before: PredictionsBySplit,
    retrained: PredictionsBySplit | None,
    *,
    anew: bool,
) -> Honest:
    record = entry.record
    return Honest(
        name=name,
        seed=record.seed,
        goal=record.goal,
        forgotten=record.forgotten,
        parts=parts,
        before=before,
        retrained=retrained,
        anew=anew,
    )


def raised(model: Honest, parts: PredictionsBySplit | None = None) -> frozenset[AlarmKind]:
    """Return which alarms say that nothing is left of a model, or of a ruin of it."""
    warned = find_alarms(
        model.parts if parts is None else parts,
        goal=model.goal,
        original=None if model.anew and parts is None else model.before,
        retrained_parts=model.retrained,
        forgotten_classes=model.forgotten,
    )
    return frozenset(alarm.alarm_kind for alarm in warned) & RUINED


def census(models: Sequence[Honest]) -> tuple[dict[tuple[str, str], Tally], Tally]:
    """Return ruins found by kind and degree, and false alarms over the honest models."""
    by_kind: dict[tuple[str, str], Tally] = defaultdict(Tally)
    accused = Tally()
    for place, model in enumerate(models):
        sorts = raised(model)
        accused.count(f"{model.name}: {', '.join(sorted(sorts))}", hit=bool(sorts))
        for made in ruins(model.parts, model.before, model.seed * 1000 + place):
            hit = bool(raised(model, made.parts) & made.sorts)
            by_kind[made.kind, made.degree].count(model.name, hit=hit)
    return dict(by_kind), accused


def margins(runs: Sequence[Path]) -> Iterator[Cells]:
    """Yield how near the honest models of the calibration seeds come to each threshold."""
    some = [one for run in runs for one in honest(run)[0] if one.seed in CALIBRATION]
    found: dict[str, list[float]] = defaultdict(list)
    for model in some:
        for name, value in _statistics(model):
            found[name].append(value)
    yield ("what honest models show", "worst", "threshold", "models")
    for name, (threshold, worst) in THRESHOLDS.items():
        if found[name]:
            yield (name, f"{worst(found[name]):.3f}", f"{threshold}", f"{len(found[name])}")


def _statistics(model: Honest) -> Iterator[tuple[str, float]]:
    gone = model.forgotten if model.goal == "class" else ()
    test = retained_class_rows(unseen_predictions(model.parts), gone)
    checked = (retained_class_rows(model.parts["validation"], gone), model.parts["retain"])
    called = test.predicted_classes
    yield (
        "classes answered, of those there are",
        sanity.count_effective_classes(called) / sanity.count_effective_classes(test.right_classes),
    )
    yield (
        "gained by other names, lower end",
        answer_comparison.best_permutation_gain(test, checked)[0][1],
    )
    if model.anew:
        return
    others = [("before", model.before)]
    others += [] if model.retrained is None else [("retrain", model.retrained)]
    for what, ours, theirs in (
        ("lost on the test, lower end", test, [(name, retained_class_rows(unseen_predictions(one), gone)) for name, one in others]),
        ("lost on what was kept, lower end", model.parts["retain"], [(name, one["retain"]) for name, one in others]),
    ):  # fmt: skip
        loss = answer_comparison.accuracy_loss(ours, theirs)
        if loss is not None:
            yield what, loss[1]
    pairs = answer_comparison.pairs(model.parts, model.before)
    if pairs is not None:
        yield "change of the answers", answer_comparison.change(pairs)


THRESHOLDS: Mapping[str, tuple[float, Callable[[list[float]], float]]] = {
    "classes answered, of those there are": (sanity.FEW, min),
    "gained by other names, lower end": (sanity.PERMUTED, max),
    "lost on the test, lower end": (sanity.LOST, max),
    "lost on what was kept, lower end": (sanity.LOST_TRAINED, max),
    "change of the answers": (sanity.UNTOUCHED, min),
}


def found(runs: Sequence[Path]) -> Iterator[Cells]:
    """Yield the table of the ruins, then false alarms, then what methods ruined by themselves."""
    pairs = [honest(run) for run in runs]
    good = [one for some, _ in pairs for one in some if one.seed not in CALIBRATION]
    by_kind, accused = census(good)
    yield ("ruined", "degree", "found", "of", "rate")
    for (kind, degree), tally in by_kind.items():
        yield (kind, degree, f"{tally.hits}", f"{tally.total}", f"{tally.hits / tally.total:.1%}")
        yield from (("  not found", name) for name in tally.missed)
    seeds = sorted({one.seed for one in good})
    false = accused.hits / max(accused.total, 1)
    yield (f"honest, seeds {seeds}", "", f"{accused.hits}", f"{accused.total}", f"{false:.1%}")
    for model in good:
        if sorts := raised(model):
            yield ("  false alarm", model.name, ", ".join(sorted(sorts)))
    for model in (one for _, some in pairs for one in some):
        yield ("ruined by its method", model.name, ", ".join(sorted(raised(model))) or "not found")


def noise_lines() -> Iterator[Cells]:
    """Yield how often pure noise passes for a change: ours, and two standard deviations."""
    yield ("retrained models", "passes", "with 2 standard deviations", "nominal")
    rng = np.random.default_rng(0)
    for seeds in (2, 3, 4, 5, 10):
        passes, before = 0, 0
        for first, then, retrained in rng.normal(0.9, 0.01, (DRAWS, 3, seeds)):
            alarm = noise(first.mean(), then.mean(), retrained.tolist(), seeds=seeds)
            passes += alarm is None
            single = rng.normal(0, 0.01)  # the change of one model, as the rule was meant
            before += abs(single) > 2 * retrained.std(ddof=1)
        ours = "cannot tell" if seeds < 3 else f"{passes / DRAWS:.1%}"
        yield (f"{seeds}", ours, f"{before / DRAWS:.1%}", "5 %")


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(["margins", "ruins", "noise"]))
@click.option("--seeds", default="1,2,3,4", show_default=True, help="1 and 2 are for calibration.")
@click.option("--full-seeds", default="1,3", show_default=True, help="Of detectors that learn all.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep all that is made there.")
def main(parts: Sequence[str], seeds: str, full_seeds: str, folder: Path | None) -> None:
    """Print what the alarms find, and whom they accuse; all PARTS when none is named."""
    logging.disable(logging.INFO)
    print(f"{machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as temporary:
        place = (folder or Path(temporary)).resolve()
        place.mkdir(parents=True, exist_ok=True)
        wanted = parts or ("margins", "ruins", "noise")
        runs = _made(place, _numbers(seeds), _numbers(full_seeds)) if wanted != ("noise",) else ()
        for part in wanted:
            lines = {
                "margins": lambda: margins(runs),
                "ruins": lambda: found(runs),
                "noise": noise_lines,
            }
            for cells in lines[part]():
                print("\t".join(cells), flush=True)
            print()


def _made(place: Path, seeds: Sequence[int], full: Sequence[int]) -> tuple[Path, ...]:
    threads = torch.get_num_threads()
    runs: dict[Path, None] = {}
    runs |= dict.fromkeys(detectors(place, threads, seeds))
    runs |= dict.fromkeys(detectors(place, threads, full, protocol="full"))
    images = os.environ.get("CIFAR10")
    if images is None:
        print("no networks that forget a class: CIFAR10 names no folder of images")
        return tuple(runs)
    return tuple(runs | dict.fromkeys(networks(place, Path(images), seeds)))


def _numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",") if one]


if __name__ == "__main__":
    main()
