"""Potion's search."""

import threading
from pathlib import Path

import pytest
import torch

from launcher.api import JobError
from tests.trueface.unlearning.build import Problem, flipped, one_class
from trueface.runtime.progress import Watch
from trueface.unlearning.methods.potion import PotionOptions, _trials


def weights(problem: Problem) -> list[torch.Tensor]:
    return [one.clone() for one in problem.model.state_dict().values()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_class_is_forgotten_and_the_others_stay(precision: str) -> None:
    done = one_class(pictures=True).run("potion", watch=Watch(precision=precision))
    assert done.log[0].metrics["forget_accuracy_trained"] == 1
    assert (done.log[-1].metrics["forget_accuracy_trained"] or 0) <= 0.2
    assert (done.log[-1].metrics["val_accuracy"] or 0) >= 0.95
    assert "was taken in trial" in done.notes[0]


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("logits", [1, 2])
def test_validation_stands_on_random_flips(pictures: bool, logits: int) -> None:
    done = flipped(pictures=pictures, logits=logits).run("potion")
    lost = (done.log[0].metrics["val_accuracy"] or 0) - (done.log[-1].metrics["val_accuracy"] or 0)
    assert lost <= 0.05


def test_where_not_even_one_weight_may_go_the_model_is_left_as_it_was() -> None:
    problem = one_class(pictures=True)
    before = weights(problem)
    done = problem.run("potion", options={"most_loss": -1.0})
    assert "left as it was" in done.notes[0]
    assert same(before, weights(problem))


def test_what_is_not_learned_needs_no_forgetting() -> None:
    problem = one_class()
    before = weights(problem)
    wrong = problem.forget.relabelled([0] * len(problem.forget))
    done = problem.run("potion", forget=wrong, goal="instances")
    assert "not one of the forgotten" in done.notes[0]
    assert done.samples_read == len(problem.forget)
    assert same(before, weights(problem))


def test_a_share_of_one_is_reached_at_once() -> None:
    done = one_class(pictures=True).run("potion", options={"stop_at": 1.0})
    assert len(done.log) == 3


def test_labels_of_the_training_do_not_matter_to_importances(tmp_path: Path) -> None:
    one_class(pictures=True).run("potion", cache=tmp_path)
    held = next(tmp_path.iterdir()).read_bytes()
    assert held
    again = one_class(pictures=True).run("potion", cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert again.cached_samples == 96


def test_trials_follow_the_percentile_and_leave_out_what_selects_the_same() -> None:
    ratios = torch.arange(101.0)
    trials = list(_trials(ratios, PotionOptions(start=1e-3, growth=2.0, trials=20)))
    assert [trial.number for trial in trials] == sorted({trial.number for trial in trials})
    alphas = [trial.alpha for trial in trials]
    assert alphas == sorted(set(alphas), reverse=True)
    last = trials[-1]
    percent = 100 - float(torch.log(torch.tensor(1 + 100 * last.c, dtype=torch.float64)))
    assert last.alpha == int(percent)
    assert last.c == pytest.approx(1e-3 * 2 ** (last.number - 1))


def test_trials_end_where_no_percentile_is_left() -> None:
    trials = list(_trials(torch.arange(5.0), PotionOptions(growth=1e10, trials=500)))
    assert 1 <= len(trials) <= 5


def test_two_runs_are_alike() -> None:
    one, other = one_class(pictures=True).run("potion"), one_class(pictures=True).run("potion")
    assert one.log == other.log
    assert same(list(one.model.state_dict().values()), list(other.model.state_dict().values()))


def test_it_stops_when_told() -> None:
    stop = threading.Event()

    def told(**_: object) -> None:
        stop.set()

    with pytest.raises(JobError, match="stopped"):
        one_class(pictures=True).run("potion", watch=Watch(stop=stop, progress=told))
