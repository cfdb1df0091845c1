"""Properties of all erasing methods, and of their settings."""

import threading
from typing import Any

import pytest
import torch
from pydantic import BaseModel, ValidationError

from tests.trueface.generators.erasing.build import a_problem, few, small
from trueface.generators.diffusion.diffuser import Diffuser, ddim_sample
from trueface.generators.erasing.erasure import (
    ErasureTask,
    iter_trajectory_batches,
    minimize_with_adam,
    run_erasure,
    sample_trajectories,
)
from trueface.generators.erasing.registry import (
    METHODS,
    ErasedSettings,
    EraseSettings,
    ErasureOptions,
    ReviseSettings,
    register_erasure,
)
from trueface.runtime.errors import JobError, UnknownName
from trueface.runtime.progress import RunContext

OF_CLASSES = {name: method for name, method in METHODS.items() if "text" not in method.needs}
STEPPING = [name for name, method in OF_CLASSES.items() if "num_steps" in method.defaults]
EDITING = [name for name in OF_CLASSES if name != "retrain"]
MEASURED = {
    "diffuser": "classes:all~abo", "teacher": "classes:all", "classifier": "folders:all",
    "data_root": "data", "concept": "cross",
}  # fmt: skip


def erased(method: str, teacher: Diffuser, /, **more: Any) -> Diffuser:
    options = METHODS[method].options({})
    if "num_steps" in METHODS[method].defaults:
        options = few(options)
    return run_erasure(method, teacher, a_problem(options, **more)).diffuser


def changed_parameters(teacher: Diffuser, student: Diffuser) -> set[str]:
    before = dict(teacher.network.named_parameters())
    after = student.network.named_parameters()
    return {name for name, parameter in after if not torch.equal(parameter, before[name])}


@pytest.mark.parametrize("method", EDITING)
def test_method_changes_only_parameters_of_its_scope_and_its_seed_alone_determines_them(
    method: str,
) -> None:
    teacher, same = small(), small()
    maps = {"blocks.0.film.weight", "blocks.1.film.weight"}
    every = {name for name, _ in teacher.network.named_parameters()} - {"table.weight"}
    scope = METHODS[method].defaults.get("scope", "maps")
    expected = {"maps": maps, "rest": every - maps, "all": every}[scope]
    student = erased(method, teacher)
    assert changed_parameters(teacher, student) == expected
    assert changed_parameters(same, teacher) == set()
    assert not any(each.requires_grad for each in student.network.parameters())
    assert changed_parameters(student, erased(method, teacher)) == set()
    if method in STEPPING:
        assert changed_parameters(student, erased(method, teacher, seed=4))


@pytest.mark.parametrize("method", STEPPING)
def test_each_step_records_its_loss(method: str) -> None:
    task = a_problem(few(METHODS[method].options({})))
    run_erasure(method, small(), task)
    assert [step for step, _ in task.history] == [1, 2, 3]


def test_self_distillation_returns_the_average_of_the_students() -> None:
    teacher = small()
    options = METHODS["sdd"].options({"ema": 1.0})
    kept = run_erasure("sdd", teacher, a_problem(few(options))).diffuser
    assert changed_parameters(teacher, kept) == set()  # all of the teacher stays
    options = METHODS["sdd"].options({"ema": 0.5, "trajectory": "concept"})
    half = run_erasure("sdd", teacher, a_problem(few(options, num_steps=1))).diffuser
    options = METHODS["sdd"].options({"ema": 0.0, "trajectory": "concept"})
    whole = run_erasure("sdd", teacher, a_problem(few(options, num_steps=1))).diffuser
    middle = [network.network.condition_maps()[0].weight for network in (teacher, half, whole)]
    assert torch.allclose(middle[1], (middle[0] + middle[2]) / 2, atol=1e-7)


def test_nonfinite_loss_fails_with_its_step() -> None:
    options = few(METHODS["abo"].options({}), lr=1e30)
    with pytest.raises(JobError, match=r"the loss is (nan|inf) at step 2 of 3\. Use a smaller lr"):
        run_erasure("abo", small(), a_problem(options))


def test_nonfinite_parameters_after_last_step_fail() -> None:
    task = a_problem(few(METHODS["abo"].options({}), num_steps=1))
    weight = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(JobError, match=r"not finite after step 1 of 1\. Use a smaller lr"):
        minimize_with_adam(task, [weight], lambda: weight.sqrt().sum())  # 0, of an infinite slope


@pytest.mark.parametrize("method", STEPPING)
def test_stop_ends_the_erasing(method: str) -> None:
    stop = threading.Event()
    stop.set()
    options = few(METHODS[method].options({}))
    with pytest.raises(JobError, match=r"stopped after 0 of 3 steps\. Nothing was written"):
        run_erasure(method, small(), a_problem(options, watch=RunContext(stop=stop)))


@pytest.mark.parametrize("method", ["abo", "esd-x", "esd-u", "sdd", "ablate"])
def test_guidance_of_teacher_without_null_token_is_rejected(method: str) -> None:
    options = few(METHODS[method].options({}))
    with pytest.raises(JobError, match="null token"):
        run_erasure(method, small(has_null=False), a_problem(options))


@pytest.mark.parametrize("method", STEPPING)
def test_teacher_trained_on_early_noise_steps_only_cannot_sample_images(method: str) -> None:
    teacher = small()
    teacher.t_max = 300
    with pytest.raises(
        JobError, match="trained only up to step 300 of 1000 and cannot draw images"
    ):
        run_erasure(method, teacher, a_problem(few(METHODS[method].options({}))))
    assert changed_parameters(teacher, erased("uce", teacher))


def test_ablation_without_guidance_and_uce_need_no_null_token() -> None:
    teacher = small(has_null=False)
    options = few(METHODS["ablate"].options({}), guidance=1.0)
    assert changed_parameters(teacher, run_erasure("ablate", teacher, a_problem(options)).diffuser)
    assert changed_parameters(teacher, erased("uce", teacher))


def a_training() -> dict[str, Any]:
    return {
        "size": 4, "channels": 1, "network": "mlp", "widths": [16, 16], "embedding": 4,
        "num_steps": 3, "batch_size": 8, "seed": 1, "data_root": "data",
    }  # fmt: skip


def test_retraining_equals_training_without_the_class() -> None:
    images = torch.randint(0, 256, (12, 1, 4, 4), dtype=torch.uint8)
    labels = torch.arange(12) % 3
    options = METHODS["retrain"].options({})
    given = {"images": images, "labels": labels, "training": a_training()}
    result = run_erasure("retrain", small(), a_problem(options, **given)).diffuser
    other = images.clone()
    other[labels == 1] = 0  # the erased class: never seen
    given = {"images": other, "labels": labels, "training": a_training()}
    unseen = run_erasure("retrain", small(), a_problem(options, **given)).diffuser
    assert result.class_names == small().class_names
    assert changed_parameters(result, unseen) == set()


def test_diffuser_with_unknown_training_cannot_be_retrained() -> None:
    options = METHODS["retrain"].options({})
    with pytest.raises(JobError, match="the settings of the teacher's training"):
        run_erasure("retrain", small(), a_problem(options))


def problem_of(**options: object) -> ErasureTask:
    return a_problem(few(ErasureOptions(), **options))


def test_trajectory_points_are_those_of_teacher_ddim_sampling() -> None:
    teacher, task = small(), problem_of(guidance=2.0)
    paths = sample_trajectories(teacher, 0, 4, task, task.generator("paths"))
    noise = torch.randn(4, 1, 4, 4, generator=task.generator("paths"))
    seen: list[tuple[int, torch.Tensor]] = []
    with torch.no_grad():
        ends = ddim_sample(
            teacher,
            noise,
            teacher.repeat_embedding(0, 4),
            steps=3,
            guidance=2.0,
            step_hook=lambda t, point: seen.append((t, point.clone())),
        )
    assert paths.times.tolist() == [t for t, _ in seen] == [1000, 667, 333]
    assert torch.equal(paths.points, torch.stack([point for _, point in seen]))
    assert torch.equal(paths.images, ends)
    assert not paths.points.requires_grad


def test_anchor_trajectories_differ_from_concept_trajectories() -> None:
    teacher = small()
    anchor, _ = next(iter_trajectory_batches(teacher, teacher, problem_of(trajectory="anchor")))
    concept, _ = next(iter_trajectory_batches(teacher, teacher, problem_of(trajectory="concept")))
    assert not torch.equal(anchor, concept)


def test_declaration_with_unknown_option_is_rejected() -> None:
    with pytest.raises(ValueError, match="'steps' is not one of"):
        register_erasure("new", summary="", defaults={"steps": 3})


def test_omitted_options_have_the_defaults_of_the_method() -> None:
    settings = EraseSettings(method="esd-x", concept="cross", lr=0.5)
    assert settings.options.lr == 0.5
    assert settings.options.scope == "maps"
    assert EraseSettings(method="esd-u", concept="cross").options.scope == "rest"


def test_unused_option_has_no_effect() -> None:
    given = {"lr": 0.5, "uce_lambda": 1, "images": "photos"}
    values = EraseSettings(method="uce", concept="cross", **given).model_dump()
    assert EraseSettings.without_effect(values) == dict.fromkeys(
        ("lr", "images"), "uce does not use it"
    )


def test_options_of_other_trajectories_have_no_effect() -> None:
    given = {"concept": "cross", "paths": 8, "refresh": 2}
    own = EraseSettings(method="esd-x", **given).model_dump()
    assert EraseSettings.without_effect(own) == {
        "paths": "with trajectory: own, batch_size sets the number of paths"
    }
    teachers = EraseSettings(method="abo", **given).model_dump()
    reason = "paths of the teacher are sampled only once"
    assert EraseSettings.without_effect(teachers) == {"refresh": reason}
    real = EraseSettings(method="forget-me-not", concept="cross", images="photos", paths=8)
    assert EraseSettings.without_effect(real.model_dump()) == {
        "paths": "with images, the teacher draws no samples"
    }


def test_single_number_is_a_list_of_one() -> None:
    settings = ErasedSettings.model_validate({**MEASURED, "recover_images": 5})
    assert settings.recover_images == (5,)


@pytest.mark.parametrize(
    ("method", "like", "more", "match"),
    [
        ("uce", "uce", {"anchor": 1}, "concept and anchor are both 'concept'"),
        ("ablate", "ablate", {"anchor": None}, "needs an anchor"),
        ("esd-z", "uce", {}, r"Did you mean 'esd-[ux]'\?"),
    ],
)
def test_impossible_erasure_is_rejected(
    method: str, like: str, more: dict[str, Any], match: str
) -> None:
    with pytest.raises((JobError, UnknownName), match=match):
        run_erasure(method, small(), a_problem(METHODS[like].options({}), **more))


@pytest.mark.parametrize(
    ("settings", "given", "match"),
    [
        (EraseSettings, {"method": "ablat", "concept": "cross"}, r"Did you mean 'ablate'\?"),
        (
            EraseSettings,
            {"method": "abo", "concept": "disc", "anchor": "disc"},
            "concept and anchor are both 'disc'",
        ),
        (EraseSettings, {"method": "ablate", "concept": "disc"}, "ablate needs an anchor"),
        (
            EraseSettings,
            {"method": "forget-me-not", "concept": "a disc", "concept_words": "cross"},
            "concept_words: 'cross' is not in the prompt 'a disc'",
        ),
        (
            ReviseSettings,
            {"source": "d", "diffuser": "m", "drawn_as": "cross", "inverted_by": "teacher"},
            "inverted_by: teacher needs a teacher",
        ),
        (ErasedSettings, {**MEASURED, "anchor": "cross"}, "concept and anchor are both 'cross'"),
        (ErasedSettings, {**MEASURED, "recover_steps": [50, 10]}, "50, 10 is not in rising order"),
        (ErasedSettings, {**MEASURED, "recover_images": []}, "Give at least one number"),
        (ErasedSettings, {**MEASURED, "samples": 1}, "greater than or equal to 2"),
    ],
)
def test_impossible_settings_are_rejected_with_a_reason(
    settings: type[BaseModel], given: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValidationError, match=match):
        settings.model_validate(given)
