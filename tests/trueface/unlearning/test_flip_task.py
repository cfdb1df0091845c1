"""Flipped labels unlearned from a script: images, a detector and settings, no job of the launcher."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.api import JobError, UsageError, parse_poison
from tests.trueface.conftest import Tree
from tests.trueface.unlearning.build import make_flip_task
from trueface.data.index import Image
from trueface.features.folder import views
from trueface.features.store import FeatureStore
from trueface.models import detectors
from trueface.models.detectors import Detector
from trueface.poisoning import label_flips as poisoning
from trueface.runtime.progress import RunContext
from trueface.training.image_lists import TrainingLists
from trueface.unlearning import experiment, flip_task, label_noise
from trueface.unlearning.experiment import UnlearningOutcome, relearn
from trueface.unlearning.flip_task import PoisonedDetector
from trueface.unlearning.phases import Phases
from trueface.unlearning.record import TrainingCost
from trueface.unlearning.settings import UnlearningSettings
from trueface.unlearning.task import OriginalModel

COUNT = 20


def settings(**changes: object) -> UnlearningSettings:
    return UnlearningSettings.model_validate(
        {
            "data_root": "data", "split_path": "splits", "method": "relabel", "model": "slim18",
            "weights": "none", "resize_size": 12, "num_epochs": 1, "batch_size": 8, "flip_prob": 0,
            "afterwards": False, **changes,
        }
    )  # fmt: skip


def make_poisoned_detector(tree: Tree, cache: Path) -> PoisonedDetector:
    names = [
        f"PreSocial/{kind}/A/{number:05}.png"
        for kind in ("Fake", "Real")
        for number in range(COUNT)
    ]
    root = tree(names)
    images = tuple(
        Image(str(root / name), name[10:-4], int("Fake" in name), "A", "pre") for name in names
    )

    def detector() -> Detector:
        return detectors.build_detector("slim18", weights="none", seed=1)

    train = images[: COUNT // 2] + images[-COUNT // 2 :]
    rest = images[COUNT // 2 : -COUNT // 2]
    poison = parse_poison("20")
    assert poison is not None
    return PoisonedDetector(
        detector=detector(),
        fresh=detector,
        lists=TrainingLists(train=train, val=rest[::2], splits=()),
        test=rest[1::2],
        poison=poisoning.choose_flips(train, poison, 1),
        base=OriginalModel(
            name="a:pre%20",
            unlearned_name="a:pre%20~relabel",
            training=TrainingCost(seconds=1.0, samples=100),
            cache=cache,
        ),
    )


def unlearn(
    poisoned: PoisonedDetector, given: UnlearningSettings, watch: RunContext
) -> UnlearningOutcome:
    return experiment.unlearn(flip_task.make_flip_task(poisoned, given, watch), watch)


@pytest.fixture
def poisoned(tree: Tree, tmp_path: Path) -> PoisonedDetector:
    return make_poisoned_detector(tree, tmp_path / "cache")


def test_each_step_of_relearning_is_reported() -> None:
    reports: list[dict[str, Any]] = []
    watch = RunContext(progress=lambda **report: reports.append(report))
    phases = Phases(watch, {"relearning": 50, "embedding": 10})
    phases.watch.progress(step=7, total=7)
    phases.watch.begin_phase("relearning")
    case = make_flip_task()
    relearn(case.model, case.forget, phases.watch, target=-1.0, most=5)
    assert [report["step"] for report in reports] == [7, 7, 17, 27, 37, 47, 57]
    assert reports[-1] == {"step": 57, "total": 67, "doing": "relearning"}


def test_phase_without_a_declared_size_is_reported_and_does_not_end_the_run() -> None:
    reports: list[dict[str, Any]] = []
    watch = RunContext(progress=lambda **report: reports.append(report))
    phases = Phases(watch, {"embedding": 10})
    phases.watch.progress(step=7, total=7)
    phases.watch.begin_phase("drawing")
    phases.add(5)
    phases.watch.progress(step=1, total=2)
    phases.watch.begin_phase("embedding")
    phases.add(10)
    assert reports[1] == {"step": 7, "total": 17, "doing": "drawing"}
    assert reports[-1] == {"step": 17, "total": 17, "doing": "embedding"}


def test_fraction_of_the_flips_is_forgotten_and_all_of_them_are_measured(
    poisoned: PoisonedDetector,
) -> None:
    done = unlearn(poisoned, settings(known=0.5, keep_retain=False), RunContext())
    assert len(done.after["forget"]) == 4
    assert done.unlearned.samples_read == 2


def test_search_is_told_the_known_fraction_and_its_expected_precision_is_recorded(
    poisoned: PoisonedDetector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given: dict[str, Any] = {}

    def find(*_: object, **more: Any) -> label_noise.Findings:
        given.update(more)
        return label_noise.Findings(
            rows=(0,),
            suggested=(0,),
            noise=0.1,
            read=18,
            flips=2.0,
            precision=0.25,
            judging_seconds=1000.0,
        )

    monkeypatch.setattr(label_noise, "find_flipped_labels", find)
    with caplog.at_level(logging.INFO, "trueface.unlearning.experiment"):
        done = unlearn(poisoned, settings(known=0.5, find=True), RunContext())
    assert given["known_fraction"] == 0.5
    assert len(given["flipped_ids"]) == 2
    assert done.record.found is not None
    assert done.record.found.expected_precision == 0.25
    assert done.record.seconds < -900  # without the time of judging
    assert "hidden=2 expected_precision=0.25" in caplog.text
    assert "find=1 reason=an estimated 75% of the flagged labels are right as they" in caplog.text


def test_last_layer_alone_starts_from_the_same_backbone(
    poisoned: PoisonedDetector, tmp_path: Path
) -> None:
    store = FeatureStore(tmp_path, limit_bytes=1 << 30)
    body = {name: value.clone() for name, value in poisoned.detector.state_dict().items()}
    done = unlearn(
        replace(poisoned, test=(), store=store),
        settings(method="retrain", freeze=True, num_epochs=2),
        RunContext(),
    )
    assert set(done.after) == {"forget", "retain", "validation"}
    changed = {
        name for name, value in done.model.state_dict().items() if not value.equal(body[name])
    }
    assert changed
    assert len({name.rpartition(".")[0] for name in changed}) == 1
    assert len(views(tmp_path)) == 1  # nothing is random


@pytest.mark.parametrize(
    ("known", "drawn"), [(0.5, 0.5), (0.3, 0.25), (0.6, 0.5), (0.7, 0.75), (0.1, 0.0)]
)
def test_search_is_told_the_fraction_that_was_drawn(
    poisoned: PoisonedDetector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    known: float,
    drawn: float,
) -> None:
    given: dict[str, Any] = {}

    def find(*_: object, **more: Any) -> label_noise.Findings:
        given.update(more)
        return label_noise.Findings(
            rows=(0,), suggested=(0,), noise=0.1, read=18, flips=1.0 if drawn else None
        )

    monkeypatch.setattr(label_noise, "find_flipped_labels", find)
    unlearn(poisoned, settings(known=known, find=True), RunContext())
    assert given["known_fraction"] == drawn
    assert ("no flipped label was drawn" in caplog.text) is (not drawn)


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"method": "pgu"}, UsageError), ({"known": 0.0}, UsageError), ({}, JobError)],
)
def test_invalid_or_stopped_problems_are_rejected(
    poisoned: PoisonedDetector, changes: dict[str, object], error: type[Exception]
) -> None:
    watch = RunContext()
    watch.stop.set()
    with pytest.raises(error):
        unlearn(poisoned, settings(**changes), watch)
