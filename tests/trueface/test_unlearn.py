from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.api import JobError
from trueface.data import Batch
from trueface.evaluate import Watch, evaluate
from trueface.models import Detector, build
from trueface.settings import UnlearnSettings
from trueface.steps import Feed
from trueface.train import fit
from trueface.unlearn import METHODS
from trueface.unlearn.method import Examples, Request, unlearn

torch.set_num_threads(1)

COUNT, SIDE = 32, 16
TRUE = torch.arange(COUNT) % 2
WRONG = tuple(range(0, COUNT, 8)) + tuple(range(1, COUNT, 8))  # a quarter, both labels


@dataclass
class Images:
    """Training images in memory, and what was read of them."""

    pixels: torch.Tensor
    read: list[int] = field(default_factory=list)
    augmented: list[int] = field(default_factory=list)

    def __call__(self, positions: Sequence[int], *, epoch: int | None) -> Iterator[Batch]:
        for chosen in torch.tensor_split(torch.tensor(positions), max(len(positions) // 8, 1)):
            self.read += chosen.tolist()
            self.augmented += chosen.tolist() if epoch is not None else []
            yield Batch(self.pixels[chosen], torch.full((len(chosen), 1), -1.0), chosen)


@dataclass
class Clean:
    """Validation images in memory."""

    pixels: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        del epoch
        yield Batch(self.pixels, self.labels[:, None].float(), torch.arange(len(self)))


def checkered(seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    pixels = torch.randint(100, 140, (COUNT, 3, SIDE, SIDE), generator=random)
    pixels[TRUE == 1, :, ::2, ::2] += 40
    return pixels.to(torch.uint8)


def settings(method: str, **changed: Any) -> UnlearnSettings:
    plain = {"model": "slim18", "weights": "none", "batch_size": 8, "num_epochs": 2, "lr": 3e-3}
    return UnlearnSettings(
        data_root="data", split_path="splits", method=method, **{**plain, **changed}
    )


def request(method: str, **changed: Any) -> tuple[Request, Images]:
    source = Images(checkered(0))
    labels = TRUE.tolist()

    def examples(positions: Sequence[int], trained: Sequence[int]) -> Examples:
        return Examples(
            source=source,
            positions=tuple(positions),
            trained=tuple(trained),
            true=tuple(labels[position] for position in positions),
        )

    kept = [position for position in range(COUNT) if position not in WRONG]
    made = Request(
        model=build("slim18", weights="none", seed=1),
        fresh=lambda: build("slim18", weights="none", seed=2),
        forget=examples(WRONG, [1 - labels[position] for position in WRONG]),
        retain=examples(kept, [labels[position] for position in kept]),
        validation=Clean(checkered(9), TRUE),
        settings=settings(method, **changed),
        cache=Path("cache"),
        watch=Watch(),
    )
    return made, source


def state(model: Detector) -> dict[str, torch.Tensor]:
    return dict(model.network.state_dict())


def accuracy(model: Detector, feed: Feed) -> float:
    answers = evaluate(model, feed(0), total=len(feed), watch=Watch())
    return float(((answers.logits > 0) == (answers.labels == 1)).mean())


def test_every_named_method_is_there() -> None:
    assert all(callable(import_module(module).unlearn) for module in METHODS.values())


def test_examples_are_labelled_as_asked() -> None:
    made, _ = request("relabel")
    for label, expected in (("trained", made.forget.trained), ("true", made.forget.true)):
        given = [
            int(value)
            for batch in made.forget.batches(label, epoch=None)  # type: ignore[arg-type]  # one of the two
            for value in batch.labels
        ]
        assert given == list(expected)


def test_flipping_twice_gives_the_true_labels_back() -> None:
    made, _ = request("relabel")
    assert [1 - label for label in made.forget.trained] == list(made.forget.true)


def test_retrain_never_trains_on_a_flipped_image() -> None:
    made, source = request("retrain")
    unlearn("retrain", made)
    assert not set(source.augmented) & set(WRONG)
    assert set(source.augmented) == set(range(COUNT)) - set(WRONG)


def test_retrain_starts_from_a_fresh_model_and_not_from_the_poisoned_one() -> None:
    made, _ = request("retrain", lr=1e-9, num_epochs=1)
    state(made.model)["fc.bias"].fill_(99.0)
    done = unlearn("retrain", made)
    assert done.model is not made.model
    assert state(done.model)["fc.bias"].item() < 1


def test_relabel_puts_every_label_right_and_reads_the_whole_set() -> None:
    made, source = request("relabel", num_epochs=12, schedule="onecycle", select="last")
    wrong = (made.forget + made.retain).feed("trained") if made.retain else made.forget.feed("true")
    fit(made.model, wrong, made.validation, made.settings, watch=Watch())
    source.augmented.clear()
    done = unlearn("relabel", made)
    assert set(source.augmented) == set(range(COUNT))
    assert accuracy(done.model, made.forget.feed("true")) > 0.9
    assert done.log[-1].metrics["forget_accuracy_true"] == pytest.approx(1.0)
    assert done.log[-1].metrics["forget_accuracy_trained"] == pytest.approx(0.0)


def test_relabel_without_the_retained_images_reads_the_forget_set_alone() -> None:
    made, source = request("relabel")
    unlearn(
        "relabel",
        Request(
            model=made.model, fresh=made.fresh, forget=made.forget, retain=None,
            validation=made.validation, settings=made.settings, cache=made.cache, watch=made.watch,
        ),
    )  # fmt: skip
    assert set(source.read) == set(WRONG)


def test_retrain_without_retained_images_is_refused() -> None:
    made, _ = request("retrain")
    with pytest.raises(JobError, match="retrain needs the images"):
        unlearn(
            "retrain",
            Request(
                model=made.model, fresh=made.fresh, forget=made.forget, retain=None,
                validation=made.validation, settings=made.settings, cache=made.cache,
                watch=made.watch,
            ),
        )  # fmt: skip


def test_the_log_begins_with_the_model_as_it_came_and_counts_what_was_read() -> None:
    made, _ = request("relabel")
    done = unlearn("relabel", made)
    assert [step.step for step in done.log] == [0, 1, 2, 3]
    assert done.samples_read == 2 * COUNT
    assert done.seconds > 0


def test_examples_need_both_labels_of_each_image() -> None:
    with pytest.raises(ValueError, match="two labels"):
        Examples(source=Images(checkered(0)), positions=(0, 1), trained=(1,), true=(0, 1))
