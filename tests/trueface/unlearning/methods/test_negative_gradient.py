import contextlib

import pytest
import torch

from launcher.api import JobError
from tests.trueface.unlearning import checks
from tests.trueface.unlearning.build import flipped, one_class
from trueface.runtime.progress import Watch

FAST = {"lr": 0.05, "epochs": 30}


@pytest.mark.parametrize("logits", [1, 2])
def test_wrong_labels_are_left_until_they_are_as_rare_as_errors(logits: int) -> None:
    done = flipped(logits=logits).run("ng", options=FAST, retain=None)
    checks.sound(done)
    last = done.log[-1].metrics
    assert last["forget_accuracy_trained"] is not None
    assert last["forget_accuracy_trained"] <= 1 - (last["val_accuracy"] or 0)
    assert len(done.log) < 32


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_a_class_is_forgotten(rate: float) -> None:
    options = {"lr": rate, "epochs": 50}
    done = one_class(pictures=True).run("ng", options=options, retain=None, goal="class")
    checks.sound(done)
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0
    assert len(done.log) < 52


def test_instances_are_left_until_they_are_like_validation() -> None:
    done = checks.instances().run("ng", options={"stop_at": None, **FAST})
    last = done.log[-1].metrics
    assert last["forget_accuracy_trained"] is not None
    assert last["forget_accuracy_trained"] <= (last["val_accuracy"] or 0)


def test_a_person_may_say_where_to_stop() -> None:
    done = flipped().run("ng", options={**FAST, "stop_at": 1.0})
    assert len(done.log) == 2
    assert "nothing was changed" in done.notes[0]


def test_nothing_is_done_where_the_forgotten_are_answered_like_others_already() -> None:
    problem = flipped()
    before = checks.weights(problem.model)
    done = problem.run("ng", options={**FAST, "stop_at": 0.9})
    assert not checks.moved(before, done.model)


def test_a_pass_ends_where_its_latest_answers_are_at_the_target() -> None:
    problem = one_class(pictures=True)
    forget = problem.forget + problem.forget
    rows = [row % len(problem.forget) for row in range(30 * len(problem.forget))]
    many = type(forget)(
        source=forget.source,
        positions=tuple(problem.forget.positions[row] for row in rows),
        trained=tuple(problem.forget.trained[row] for row in rows),
        true=None,
    )
    options = {"lr": 0.1, "epochs": 1, "batch_size": 16}
    done = problem.run("ng", options=options, forget=many)
    whole = 3 * len(many)  # one pass, measured before and after
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0
    assert done.samples_read < whole


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_rate_far_too_high_gives_finite_answers_or_an_error(pictures: bool, clip: float) -> None:
    options = {"lr": 10.0, "epochs": 20, "stop_at": 0.0, "clip": clip}
    with contextlib.suppress(JobError):
        checks.sound(one_class(pictures=pictures).run("ng", options=options))


def test_a_note_tells_of_lost_accuracy() -> None:
    options = {"lr": 1.0, "epochs": 20, "stop_at": 0.0, "momentum": 0.0}
    done = one_class(pictures=True).run("ng", options=options)
    fell = (done.log[0].metrics["val_accuracy"] or 0) - (done.log[-1].metrics["val_accuracy"] or 0)
    assert any("validation accuracy fell" in note for note in done.notes) == (fell > 0.1)


def test_a_note_tells_that_the_target_was_not_reached() -> None:
    done = one_class().run("ng", options={"lr": 1e-6, "epochs": 2})
    assert "after 2 epochs, 0.0% were wanted" in done.notes[0]


def test_batch_statistics_stay() -> None:
    problem = one_class(pictures=True)
    before = [one.clone() for one in problem.model.buffers()]
    problem.run("ng", options=FAST)
    assert all(torch.equal(*pair) for pair in zip(before, problem.model.buffers(), strict=True))


@pytest.mark.parametrize("logits", [1, 2])
def test_a_last_layer_alone_will_do(logits: int) -> None:
    done = checks.over_features(logits).run("ng", options={**FAST, "stop_at": 0.1})
    assert (done.log[-1].metrics["forget_accuracy_true"] or 0) >= 0.9


def test_half_precision_will_do() -> None:
    options = {"lr": 0.1, "epochs": 50}
    done = one_class(pictures=True).run("ng", options=options, watch=Watch(precision="bf16"))
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0


def test_a_seed_fixes_the_result() -> None:
    checks.repeats("ng", FAST)


def test_it_can_be_stopped() -> None:
    checks.stops("ng", {"stop_at": 0.0, "lr": 1e-6})
