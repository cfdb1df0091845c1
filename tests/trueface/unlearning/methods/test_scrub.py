import copy
import math
from dataclasses import replace

import pytest
import torch

from tests.trueface.unlearning import checks
from tests.trueface.unlearning.build import make_class_task, make_flip_task
from tests.trueface.unlearning.checks import points_and_pictures
from trueface.models.detectors import set_train_mode
from trueface.models.logits import as_multiclass_logits, cross_entropy, kl_divergence
from trueface.unlearning.methods import scrub
from trueface.unlearning.methods.scrub import ScrubOptions, StudentCheckpoint
from trueface.unlearning.optimization import Descent

FAST = {"lr": 0.02, "epochs": 6, "max_epochs": 3, "forget_batch": 32}


@points_and_pictures
def test_scrub_without_max_steps_and_teacher_equals_fine_tuning(
    pictures: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub, "GAMMA", 1.0)
    task = make_class_task(pictures=pictures)
    plain = copy.deepcopy(task.model)
    options = ScrubOptions(max_epochs=0, alpha=0.0, lr=0.05, batch_size=16)
    done = task.run("scrub", options=options)
    descent = Descent(plain.parameters(), options)
    for epoch in range(options.epochs):
        set_train_mode(plain, fixed_statistics=False)
        for batch in task.retain.batches("trained", epoch=epoch, batch_size=16):
            descent.step(cross_entropy(as_multiclass_logits(plain(batch.inputs)), batch.labels))
    assert not checks.has_changed(checks.copy_weights(plain), done.model)


def test_max_steps_precede_min_steps_and_stop_before_the_final_epochs() -> None:
    done = make_class_task().run("scrub", options=FAST)
    checks.assert_sound(done, 6)
    assert ["loss_forget" in step.metrics for step in done.log[1:-1]] == [True] * 3 + [False] * 3
    assert next(iter(done.log[1].metrics)) == "loss"


def test_first_max_step_moves_a_student_equal_to_its_teacher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scrub, "GAMMA", 0.0)
    task = make_flip_task()
    before = checks.copy_weights(task.model)
    options = {"epochs": 1, "max_epochs": 1, "alpha": 0.0, "weight_decay": 0.0}
    assert checks.has_changed(before, task.run("scrub", options=options).model)


def test_divergence_equals_the_formula_also_for_one_logit() -> None:
    teacher, student = torch.tensor([[2.0], [-1.0]]), torch.tensor([[0.5], [0.0]])
    expected = 0.0
    for told, said in zip(teacher.flatten().tolist(), student.flatten().tolist(), strict=True):
        p, q = (1 / (1 + math.exp(-one / 3)) for one in (told, said))
        expected += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    original, model = as_multiclass_logits(teacher), as_multiclass_logits(student)
    assert float(kl_divergence(original, model, 3.0)) == pytest.approx(expected / 2, rel=1e-5)
    assert float(kl_divergence(original, original, 3.0)) == 0


@pytest.mark.parametrize(("reference", "epoch"), [(1.0, 2), (0.0, 4), (0.55, 3), (0.75, 3)])
def test_rewinding_takes_the_nearest_error_and_the_latest_of_equals(
    reference: float, epoch: int
) -> None:
    found = [(1, 1.0), (2, 1.0), (3, 0.5), (4, 0.0)]
    some = [StudentCheckpoint(epoch=one, forget=accuracy, validation=0) for one, accuracy in found]
    assert scrub.nearest_checkpoint(some, reference).epoch == epoch


def test_rewinding_restores_an_epoch_exactly() -> None:
    options = {"lr": 0.2, "epochs": 10, "max_epochs": 10, "forget_batch": 4, "rewind": True}
    done = checks.instance_task().run("scrub", options=options)
    epoch = int(done.notes[0].split()[3])
    name = "forget_accuracy_trained"
    assert done.notes[0].startswith(f"rewound to epoch {epoch} of 10")
    assert done.log[-1].metrics[name] == done.log[epoch].metrics[name]


def test_rewinding_has_no_meaning_for_a_class_or_wrong_labels_and_gives_a_note() -> None:
    options = {**FAST, "rewind": True}
    of_class = make_class_task().run("scrub", options=options)
    assert of_class.notes == (scrub.NO_REWIND["class"],)
    assert not checks.has_changed(
        checks.copy_weights(of_class.model), make_class_task().run("scrub", options=FAST).model
    )
    assert make_flip_task().run("scrub", options=options).notes[0] == scrub.NO_REWIND["flips"]


def test_rewinding_needs_validation_samples_of_the_same_classes() -> None:
    task = checks.instance_task()
    rows = [row for row, label in enumerate(task.forget.trained) if label == 0]
    alone = task.forget.subset(rows)
    kept = [row for row, label in enumerate(task.validation.trained) if label != 0]
    other = replace(task, forget=alone, validation=task.validation.subset(kept))
    assert other.run("scrub", options={**FAST, "rewind": True}).notes == (scrub.NONE_ALIKE,)
