"""Task files with the laboratory's kinds, worked out by the launcher."""

import logging
import shutil
from pathlib import Path

import pytest

from launcher.api import Plan, TaskFileError
from tests.trueface.jobs import build
from trueface.jobs.kinds import POISON, SAMPLE, TEST, TRAIN, UNLEARN
from trueface.jobs.setup import log_without_effect
from trueface.runtime import paths
from trueface.runtime.files import Json, write_json
from trueface.training.objectives.registry import used_objective
from trueface.training.settings import TrainSettings


def plan_text(text: str, root: Path = Path("/lab")) -> Plan:
    return build.plan_text(text, (TRAIN, TEST, POISON, UNLEARN, SAMPLE), root)


TRAINED = """
name: study
defaults: {data_root: data, split_path: splits}
train:
  - {data: gan2:pre}
"""


def errors(text: str) -> list[tuple[str, str]]:
    """Return the headline and the hint of each error."""
    with pytest.raises(TaskFileError) as caught:
        plan_text(text)
    return [(problem.message, problem.hint) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "then",
    [
        "autotest: [gan1:pre]",
        "test:\n  - {model: gan2:pre, data: gan1:pre}",
        "  - {model: gan2:pre, data: gan3:pre}",
        "unlearn: [relabel]",
    ],
)
def test_model_whose_weights_are_not_saved_is_not_used_in_the_plan(then: str) -> None:
    text = TRAINED.replace("splits}", "splits, train: {save_weights: false}}")
    if then.startswith("unlearn"):
        text = text.replace("{data: gan2:pre}", "{data: gan2:pre, poison: 50}")
    (model,) = {job.model for job in plan_text(text).jobs if job.kind == "train"}
    assert (
        f"the training of {model} does not save the weights that this job needs",
        "set save_weights: true in the training",
    ) in errors(text + then)
    assert plan_text(text.replace("false", "true") + then).jobs


UNLEARNED = """
name: study
defaults: {{data_root: data, split_path: splits}}
train:
  - {{data: gan2:pre, poison: 50, objective: {trained}}}
unlearn:
  - {{model: gan2:pre%50, method: relabel{given}}}
"""


@pytest.mark.parametrize(
    ("trained", "digest"),
    [
        ("ce", "0eaed8405d6d4e4a1705bd1a71c255e9659725f9882eb2ee4e368d06d9cf41f4"),
        ("bce", "3da295e0c133f0da570645e49fc5bf51fa24495686d64cdaee5d8c19829011d6"),
    ],
)
@pytest.mark.parametrize("is_given", [True, False])
def test_unlearning_takes_the_objective_of_its_model_and_keeps_its_hash(
    trained: str, digest: str, is_given: bool
) -> None:
    given = f", objective: {trained}" if is_given else ""
    *_, unlearning = plan_text(UNLEARNED.format(trained=trained, given=given)).jobs
    assert unlearning.kind == "unlearn"
    assert unlearning.settings["objective"] == trained
    assert unlearning.hash == digest


def test_objective_given_for_an_unlearning_must_be_that_of_its_model() -> None:
    ((message, hint),) = errors(UNLEARNED.format(trained="ce", given=", objective: bce"))
    assert message.startswith("gan2:pre%50 is trained with objective: ce")
    assert message.endswith("this is objective: bce")
    assert hint == "use the same value in training and unlearning"


def test_unlearning_takes_the_objective_that_a_model_of_an_earlier_run_records(
    tmp_path: Path,
) -> None:
    text = UNLEARNED.format(trained="ce", given="")
    text = text[: text.index("train:")] + text[text.index("unlearn:") :]
    folder = tmp_path / "runs/study/gan2:pre%50"
    folder.mkdir(parents=True)
    (job,) = plan_text(text, tmp_path).jobs
    assert job.settings["objective"] == "bce"
    recorded: list[dict[str, Json]] = [{"objective": "ce"}, {"objective": "bce", "fair": "dag"}]
    for settings in recorded:
        write_json(paths.provenance(folder), {"settings": settings})
        (job,) = plan_text(text, tmp_path).jobs
        assert job.settings["objective"] == used_objective(settings)
    # its loss needs groups, which an unlearning does not read: the job is refused as before
    write_json(paths.provenance(folder), {"settings": {"fair": "dro"}})
    (job,) = plan_text(text, tmp_path).jobs
    assert job.settings["objective"] == "bce"


@pytest.mark.parametrize(
    ("named", "notes"),
    [
        ("gan2:pre", ("poisoned models of this file: gan2:pre%50, gan2:pre%20",)),
        ("gan2:pre%50", None),
        ("gan2:pre%50~relabel", None),
    ],
)
def test_unlearning_of_clean_model_is_rejected_with_list_of_poisoned_models(
    named: str, notes: tuple[str, ...] | None
) -> None:
    poisoned = "  - {data: gan2:pre, poison: [50, 20]}\n"
    wanted = "unlearn:\n  - {model: gan2:pre%50, method: relabel}\n"
    wanted += f"  - {{model: {named}, method: retrain}}\n"
    if notes is None:
        assert plan_text(f"{TRAINED}{poisoned}{wanted}").jobs
        return
    with pytest.raises(TaskFileError) as caught:
        plan_text(f"{TRAINED}{poisoned}{wanted}")
    (problem,) = caught.value.problems
    assert problem.message.startswith("gan2:pre has no flipped labels")
    assert problem.notes == notes


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "auto"])
def test_device_of_task_file_is_in_the_commands(device: str) -> None:
    text = f"{TRAINED}autotest: [gan1:pre]\nresources: {{device: {device}}}\n"
    for job in plan_text(text).jobs:
        words = " ".join(job.argv)
        assert (f"--device {device}" in words) is (device != "auto")
        assert ("--device" in words) is (device != "auto")


def test_test_batch_size_is_an_eighth_of_batch_size_given_as_text() -> None:
    text = f"{TRAINED}autotest: [gan1:pre]\n".replace("splits}", 'splits, batch_size: "16"}')
    batches = {job.kind: job.settings["batch_size"] for job in plan_text(text).jobs}
    assert batches == {"train": 16, "test": 2}


def test_models_of_equal_images_under_other_words_are_equal() -> None:
    words = "subsets: {a1: [Wild], b1: [Wild]}\nmodifiers: {mail: PreSocial}\n"
    text = f"{words}{TRAINED}test:\n  - {{model: b1:pre, data: gan1:pre}}\n"
    job = plan_text(text.replace("data: gan2:pre", "data: a1:mail")).jobs[-1]
    assert job.kind == "test"
    assert [need for need in job.needs if need.startswith("train/")]


def test_data_folder_with_invalid_name_is_missing(tmp_path: Path) -> None:
    text = TRAINED.replace("data_root: data", f"data_root: {'x' * 256}")
    (missing, *_) = plan_text(text, tmp_path).missing
    assert "the data folder is missing, and no job makes it" in missing.message


# --- what a seed is for

POISONED = """
name: study
defaults: {data_root: data, split_path: splits}
"""


def poison_seeds(text: str) -> dict[str, object]:
    """Return the seed of each draw of labels, by the job that makes it."""
    made = plan_text(POISONED + text)
    return {job.name: job.settings["poison_seed"] for job in made.jobs if job.kind == "poison"}


@pytest.mark.parametrize(
    "text",
    [
        "matrix: {seed: [1, 2]}\ntrain: [{data: gan2:pre, poison: 20}]",
        "train: [{data: gan2:pre, poison: 20, matrix: {seed: [1, 2]}}]",
        "matrix: {train: {seed: [1, 2]}}\ntrain: [{data: gan2:pre, poison: 20}]",
    ],
)
def test_seed_sweep_draws_different_labels_per_seed(text: str) -> None:
    assert poison_seeds(text) == {
        "poison/gan2:pre%20@seed=1": 1,
        "poison/gan2:pre%20@seed=2": 2,
    }


def test_image_list_is_not_drawn_and_serves_all_seeds() -> None:
    text = "matrix: {seed: [1, 2]}\ntrain: [{data: gan2:pre, poison: 20, poison_list: keys.txt}]"
    assert poison_seeds(text) == {"poison/gan2:pre%20@seed=1": 42}


def test_seed_and_draw_can_be_paired_by_a_list() -> None:
    text = (
        "matrix: [{seed: 1, poison_seed: 7}, {seed: 2, poison_seed: 8}]\n"
        "train: [{data: gan2:pre, poison: 20}]"
    )
    assert poison_seeds(text) == {
        "poison/gan2:pre%20@seed=1,poison_seed=7": 7,
        "poison/gan2:pre%20@seed=2,poison_seed=8": 8,
    }


def test_run_without_own_seed_is_unchanged() -> None:
    plain, said = (
        plan_text(f"{POISONED}train: [{{data: gan2:pre, poison: 20{more}}}]\nunlearn: [relabel]")
        for more in ("", ", poison_seed: 42, seed: 42")
    )
    assert [job.hash for job in plain.jobs] == [job.hash for job in said.jobs]
    assert TRAIN.settings.model_fields["seed"].default == 42
    assert POISON.settings.model_fields["poison_seed"].default == 42


def test_test_with_surrogate_depends_on_both_models() -> None:
    made = plan_text(
        TRAINED
        + "  - {data: gan1:pre}\ntest:\n"
        + "  - {model: gan2:pre, data: gan3:pre, attack: [none, transfer2], surrogate: gan1:pre}\n"
    )
    names = [job.name for job in made.jobs]
    attacked = "test/gan2:pre/gan3:pre@attack=transfer2,surrogate=gan1-pre"
    assert names == ["train/gan2:pre", "test/gan2:pre/gan3:pre", "train/gan1:pre", attacked]
    assert set(made.jobs[-1].needs) == {"train/gan2:pre", "train/gan1:pre"}
    assert made.jobs[1].needs == ("train/gan2:pre",)


HEAD = "name: s\ndefaults: {data_root: data, split_path: splits%s}\n"


def notes(text: str) -> list[str]:
    """Return the messages about settings without effect in a plan."""
    return [each.message for each in plan_text(text).warnings if each.code == "no-effect"]


@pytest.mark.parametrize(
    "text",
    [
        HEAD % ", schedule: onecycle"
        + "train: [{data: gan2:pre, matrix: {lr_decay_epochs: [2, 3]}}]",
        HEAD % "" + "matrix: {lr_gamma: [0.1, 0.5]}\ntrain: [{data: gan2:pre}]",
        HEAD % "" + "matrix: {train: {momentum: [0.1, 0.5]}}\ntrain: [{data: gan2:pre}]",
        HEAD % ""
        + "train: [{data: gan2:pre, matrix: [{seed: 1, awp_from: 2}, {seed: 2, awp_from: 4}]}]",
        HEAD % ", poison: 20"
        + "train: [{data: gan2:pre}]\nunlearn: [{model: 'gan2:pre%20', method: ng, matrix: {lr: [0.1, 0.2]}}]",
        HEAD % ", flip_prob: 0.0" + "train: [{data: gan2:pre, matrix: {augment_seed: [1, 2]}}]",
        HEAD % ", solver: ridge, copies: mirrored"
        + "train: [{data: gan2:pre, matrix: {augment_seed: [1, 2]}}]",
        HEAD % ", num_epochs: 1, awp: 0.01"
        + "train: [{data: gan2:pre, matrix: {awp_from: [2, 5]}}]",
        HEAD % ", num_epochs: 2" + "train: [{data: gan2:pre, matrix: {awp: [0, 0.05]}}]",
        HEAD % ", num_epochs: 2" + "train: [{data: gan2:pre, matrix: {early_stop: [5, 0]}}]",
        HEAD % "" + "train: [{data: gan2:pre, matrix: {test_crops: [0, 5]}}]",
        HEAD % "" + "train: [{data: gan2:fb, matrix: {sbi: [0.0, 0.5]}}]",
        HEAD % ", jpeg_qual: 30" + "train: [{data: gan2:shr, matrix: {jpeg_prob: [0.0, 0.9]}}]",
        HEAD % ", blur_prob: 0.9" + "train: [{data: gan2:fb, matrix: {blur_sigma: [1, 2]}}]",
        HEAD % ", objective: core, model: slim18, flip_prob: 0.0"
        + "train: [{data: gan2:pre, matrix: {core_weight: [1.0, 100.0]}}]",
        HEAD % ", objective: core, model: slim18, flip_prob: 1.0, jpeg_prob: 0.5, dropout: 0.5"
        + "train: [{data: gan2:fb, matrix: {core_weight: [1.0, 100.0]}}]",
        HEAD % "" + "train: [{data: gan2:pre, matrix: {poison_seed: [1, 2]}}]",
        HEAD % "" + "train: [{data: gan2:pre, matrix: {poison_unit: [picture, image]}}]",
        HEAD
        % ", poison: 20, num_epochs: 9, awp: 0.01"
        + "train: [{data: gan2:pre}]\nunlearn: [{model: 'gan2:pre%20', method: retrain, unlearn_epochs: 1, "
        "matrix: {awp_from: [2, 5]}}]",
    ],
)
def test_sweep_over_a_setting_without_effect_is_refused(text: str) -> None:
    (hint,) = [
        hint
        for message, hint in errors(text)
        if "has no effect, so a sweep compares nothing: " in message
    ]
    assert hint.startswith("remove ")


@pytest.mark.parametrize(
    "text",
    [
        HEAD % ", optimizer: sgd, schedule: onecycle"
        + "train: [{data: gan2:pre, matrix: {momentum: [0, 0.1, 0.9]}}]",
        HEAD % ", momentum: 0.5" + "train: [{data: gan2:pre, matrix: {optimizer: [adam, sgd]}}]",
        HEAD % ""
        + "train: [{data: gan2:pre, matrix: [{optimizer: sgd, momentum: 0.5}, {optimizer: adam, momentum: 0.9}]}]",  # prose: ok, a task file
        HEAD % ", poison: 20, num_epochs: 3"
        + "train: [{data: gan2:pre}]\nunlearn: [{model: 'gan2:pre%20', method: ng}]",
        HEAD % "" + "train: [{data: gan2:pre}]\n"
        "test: [{model: gan2:pre, data: gan3:pre, attack: [none, fgsm1], attack_images: 9}]",
        HEAD % ", num_epochs: 3, awp: 0.01"
        + "train: [{data: gan2:pre, matrix: {awp_from: [3, 5]}}]",
        HEAD % ", num_epochs: 1, attributes: faces.csv"
        + "train: [{data: gan2:pre, matrix: {select: [best, worst-cell]}}]",
        HEAD % ", flip_prob: 0.0, qualities: 'none,jpeg50'"
        + "train: [{data: gan2:pre, matrix: {augment_seed: [1, 2]}}]",
        HEAD % ", solver: ridge" + "train: [{data: gan2:pre, matrix: {augment_seed: [1, 2]}}]",
        HEAD % ""
        + "train: [{data: gan2:all, matrix: {sbi: [0.0, 0.5], jpeg_prob: [0.0, 0.9], blur_prob: [0, 0.5]}}]",
        HEAD % ", objective: core, model: slim18"
        + "train: [{data: gan2:pre, matrix: {core_weight: [1.0, 100.0]}}]",
        HEAD % ", objective: core, model: tv/efficientnet_b0, flip_prob: 0.0"
        + "train: [{data: gan2:pre, matrix: {core_weight: [1.0, 100.0]}}]",
        HEAD % ", objective: core, model: mesonet, flip_prob: 0.0"  # its dropout draws twice
        + "train: [{data: gan2:pre, matrix: {core_weight: [1.0, 100.0]}}]",
        HEAD % ", objective: core, model: sbi, flip_prob: 0.0"  # so does its random depth
        + "train: [{data: gan2:pre, matrix: {core_weight: [1.0, 100.0]}}]",
        HEAD % ", flip_prob: 0.0, augment_seed: 1" + "train: [{data: gan2:pre}]",
        HEAD % ", num_epochs: 1, select: last" + "train: [{data: gan2:pre}]",
        HEAD % ", poison_seed: 3, seed: 3" + "train: [{data: gan2:pre}]",
        HEAD % ", poison_seed: 3" + "train: [{data: gan2:pre}, {data: gan1:pre, poison: 20}]",
        HEAD % ""
        + "matrix: {poison_seed: [42, 1]}\ntrain: [{data: gan2:pre}, {data: gan1:pre, poison: 20}]",
    ],
)
def test_setting_with_an_effect_on_one_job_is_not_noted(text: str) -> None:
    assert notes(text) == []
    assert equal_models(text) == []


def equal_models(text: str) -> list[str]:
    """Return the messages about models of a plan that are equal."""
    return [each.message for each in plan_text(text).warnings if each.code == "same-model"]


@pytest.mark.parametrize(
    ("text", "second", "first"),
    [
        (
            HEAD % ""
            + "train: [{data: gan2:pre, matrix: {optimizer: [adam, sgd], momentum: [0.1, 0.9]}}]",
            "gan2:pre@optimizer=adam,momentum=0.9",
            "gan2:pre@optimizer=adam,momentum=0.1",
        ),
        (
            HEAD % ", lr_decay_epochs: 1"
            + "train: [{data: gan2:pre, matrix: {schedule: [step, onecycle], lr_gamma: [0.1, 0.5]}}]",
            "gan2:pre@schedule=onecycle,lr_gamma=0.5",
            "gan2:pre@schedule=onecycle,lr_gamma=0.1",
        ),
        (
            HEAD % ""
            + "train: [{data: gan2:pre, matrix: {ema: [0, 0.9], ema_warmup: [false, true]}}]",
            "gan2:pre@ema=0.0,ema_warmup=true",
            "gan2:pre@ema=0.0,ema_warmup=false",
        ),
        (
            HEAD % ""
            + "train: [{data: gan2:pre, matrix: {schedule: [plateau, onecycle], lr_decay_epochs: [-1, 5]}}]",
            "gan2:pre@schedule=onecycle,lr_decay_epochs=5",
            "gan2:pre@schedule=onecycle,lr_decay_epochs=-1",
        ),
        (
            HEAD % ", optimizer: sgd"
            + "matrix: {momentum: [0.1, 0.5]}\ntrain: [{data: gan2:pre}, {data: gan1:pre, optimizer: adam}]",
            "gan1:pre@momentum=0.5",
            "gan1:pre@momentum=0.1",
        ),
        (
            HEAD % ""
            + "train: [{data: gan2:pre, matrix: {patch_size: [-1, 64], test_crops: [5, 0]}}]",
            "gan2:pre@patch_size=-1,test_crops=0",
            "gan2:pre@patch_size=-1,test_crops=5",
        ),
    ],
)
def test_equal_models_of_a_sweep_with_an_effect_on_others_are_warned_of(
    text: str, second: str, first: str
) -> None:
    (message,) = equal_models(text)
    assert message.startswith(f"{second} is the same model as {first}, because ")


def test_sweep_that_changes_the_model_before_is_not_warned_of_in_an_unlearning() -> None:
    text = (
        HEAD % ", poison: 20" + "matrix: {lr: [0.1, 0.2]}\ntrain: [{data: gan2:pre}]\n"
        "unlearn: [{model: 'gan2:pre%20', method: ng}]"
    )
    assert equal_models(text) == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (HEAD % ", schedule: onecycle, lr_gamma: 0.5" + "train: [{data: gan2:pre}]", ["lr_gamma"]),
        (HEAD % "" + "train: [{data: gan2:pre, momentum: 0.5}, {data: gan1:pre}]", ["momentum"]),
        (
            HEAD % ", poison_unit: image" + "train: [{data: gan2:pre}, {data: gan1:pre}]",
            ["poison_unit"],
        ),
        (HEAD % "" + "train: [{data: gan2:pre, poison_unit: image}]", ["poison_unit"]),
        (HEAD % ", num_epochs: 2, awp: 0.05" + "train: [{data: gan2:pre}]", ["awp"]),
        (
            HEAD % ", jpeg_prob: 0.5, jpeg_qual: 30" + "train: [{data: gan2:fb}]",
            ["jpeg_prob", "jpeg_qual"],
        ),
        (
            HEAD % "" + "train: [{data: gan2:pre}]\n"
            "test: [{model: gan2:pre, data: gan3:pre, attack_images: 9, patch_size: 64}]",
            ["attack_images", "patch_size"],
        ),
        (
            HEAD % ", poison: 20" + "train: [{data: gan2:pre}]\n"
            "unlearn: [{model: 'gan2:pre%20', method: relabel, num_epochs: 3, unlearn_epochs: 2}]",
            ["num_epochs"],
        ),
    ],
)
def test_setting_without_effect_on_any_job_is_noted_once(text: str, names: list[str]) -> None:
    assert [note.partition(" has no effect here: ")[0] for note in notes(text)] == names


def test_log_of_a_job_names_no_seed_without_effect(caplog: pytest.LogCaptureFixture) -> None:
    given = {"data_root": "data", "split_path": "splits", "flip_prob": 0.0, "augment_seed": 3}
    with caplog.at_level(logging.INFO, "trueface.jobs.setup"):
        log_without_effect(TrainSettings.model_validate({**given, "lr_gamma": 0.5}))
    assert [each.message.split()[0] for each in caplog.records] == ["setting=lr_gamma"]


def kind_warnings(text: str) -> list[str]:
    """Return the messages of the warnings of the job types in a plan."""
    return [each.message for each in plan_text(text).warnings if each.code == "kind-warning"]


def test_patches_larger_than_the_image_are_warned_of() -> None:
    def warned(side: int) -> list[str]:
        text = HEAD % f", resize_size: 32, patch_size: {side}" + "train: [{data: gan2:pre}]"
        return kind_warnings(text)

    assert warned(32) == []
    (message,) = warned(64)
    assert message.startswith("patch_size: 64 is larger than resize_size: 32")


def test_momentum_that_the_cycle_does_not_move_is_noted_only_in_a_sweep() -> None:
    text = HEAD % ", optimizer: sgd, schedule: onecycle%s" + "train: [{data: gan2:pre%s}]"
    assert kind_warnings(text % ("", "")) == []
    assert kind_warnings(text % (", momentum: 0.9", "")) == []
    (note,) = kind_warnings(text % ("", ", matrix: {momentum: [0.1, 0.9]}"))
    assert note.startswith("schedule: onecycle does not change the momentum here")


def test_train_list_of_one_class_is_warned_of_in_the_plan(tmp_path: Path) -> None:
    keys = build.write_images(tmp_path, 8)

    def warned(named: list[str], more: str = "", data: str = "gan2:pre") -> list[str]:
        build.write_lists(tmp_path / "splits", train=named, val=[], test=[])
        made = plan_text(HEAD % more + f"train: [{{data: {data}}}]", tmp_path)
        return [each.message for each in made.warnings if "train list" in each.message]

    reals = [key for key in keys if key.startswith("FFHQ")]
    assert warned(keys) == warned([]) == warned(reals, ", sbi: 0.5") == []
    (message,) = warned(reals)
    assert message.startswith("gan2:pre: the train list has no fake images of ")
    shutil.copytree(tmp_path / "data/PreSocial", tmp_path / "data/Facebook")
    (message,) = warned(reals, ", sbi: 0.5", data="gan2:fb")
    assert message.endswith("images, and the real ones are all re-shared.")
    (message,) = warned(reals, ", sbi: 0.5, solver: ridge")
    assert "Make another split" in message
    for data in ("all:pre", "all:pre&gan2:pre"):
        assert warned(keys, data=data) == []
        (message,) = warned(reals, data=data)
        assert "has no fake images of all:pre" in message
    (message,) = warned([key for key in keys if key not in reals])
    assert message.startswith("gan2:pre: the train list has no real images of ")


@pytest.mark.parametrize(
    ("poison", "said"),
    [
        (
            "5",
            "poison 5 of 16 images of gan2:pre&real:pre flips 0 labels, so the job is refused. Raise",
        ),
        ("7", ""),
        ("f2r-50", ""),
        (
            "f2r-60",
            "poison f2r-60 of 16 images of gan2:pre&real:pre flips 9 labels, so the job is refused. O",
        ),
    ],
)
def test_poison_that_flips_no_label_or_too_many_is_warned_of_in_the_plan(
    tmp_path: Path, poison: str, said: str
) -> None:
    build.write_lists(tmp_path / "splits", train=build.write_images(tmp_path, 8), val=[], test=[])
    text = HEAD % "" + f"train: [{{data: gan2:pre, poison: {poison}, matrix: {{seed: [1, 2]}}}}]"
    messages = [each.message for each in plan_text(text, tmp_path).warnings]
    found = [each for each in messages if "so the job is refused" in each]
    assert [each[: len(said)] for each in found] == [said][: len(said)]


def test_average_longer_than_the_training_is_warned_of_in_the_plan(tmp_path: Path) -> None:
    build.write_lists(tmp_path / "splits", train=build.write_images(tmp_path, 8), val=[], test=[])

    def warned(ema: str) -> list[str]:
        text = HEAD % f", num_epochs: 4, batch_size: 4, ema: {ema}" + "train: [{data: gan2:pre}]"
        made = plan_text(text, tmp_path)
        return [each.message for each in made.warnings if "ema" in each.message]

    assert warned("0.5") == warned("0.999, ema_warmup: true") == []
    assert [each[:25] for each in warned("0.999, solver: ridge")] == ["ema has no effect here: t"]
    (message,) = warned("0.999")
    assert message.startswith("ema: 0.999 is too long: it averages over 1,000 steps, but the")


@pytest.mark.parametrize(
    ("accumulate", "count"), [("4", 0), ("5", 1), ("64", 1), ("64, solver: ridge", 0)]
)
def test_more_accumulated_batches_than_an_epoch_has_are_warned_of_in_the_plan(
    tmp_path: Path, accumulate: str, count: int
) -> None:
    build.write_lists(tmp_path / "splits", train=build.write_images(tmp_path, 8), val=[], test=[])
    text = HEAD % f", batch_size: 4, accumulate: {accumulate}" + "train: [{data: gan2:pre}]"
    made = plan_text(text, tmp_path)
    messages = [each.message for each in made.warnings if "too many" in each.message]
    assert len(messages) == count
    assert all("an epoch has 4 batches, so accumulate: 4 trains" in each for each in messages)


@pytest.mark.parametrize(
    ("fakes", "reals", "more", "said"),
    [
        (8, 8, "", ""),
        (0, 0, "", ""),
        (2, 2, "", ""),
        (
            8,
            0,
            "",
            "0 real and 8 fake images of gan2:pre&real:pre: one class alone chooses the epoch, and t",
        ),
        (
            8,
            1,
            "",
            "1 real and 8 fake images of gan2:pre&real:pre: temperature and threshold are not",
        ),
        (0, 8, ", sbi: 0.5", "need 2 images of each class. Add fake images to the data."),
        (0, 8, ", select: last", "8 real and 0 fake images of gan2:pre&real:pre: temperature and"),
    ],
)
def test_val_list_of_one_class_is_warned_of_once_in_the_plan(
    tmp_path: Path, fakes: int, reals: int, more: str, said: str
) -> None:
    keys = build.write_images(tmp_path, 8)
    real = [key for key in keys if key.startswith("FFHQ")]
    fake = [key for key in keys if key not in real]
    build.write_lists(tmp_path / "splits", train=keys, val=[*fake[:fakes], *real[:reals]], test=[])
    text = HEAD % more + "train: [{data: gan2:pre, matrix: {seed: [1, 2]}}]"
    made = plan_text(text, tmp_path)
    messages = [each.message for each in made.warnings if "val list" in each.message]
    assert len(messages) == bool(said)
    assert said in "".join(messages)


def test_trigger_on_a_model_without_one_is_warned_of_once() -> None:
    text = (
        HEAD % ", test: {trigger: true}, poison: %s"
        + "train: [{data: gan2:pre}, {data: gan1:pre}]\n"
    )
    for poison, count in (("patch-20", 0), ("20", 1), ("null", 1)):
        said = kind_warnings(text % poison + "autotest: [gan3:pre]\n")
        assert [each[:42] for each in said] == [
            "trigger: true adds a patch that the model "
        ] * count


def test_trigger_on_a_clean_control_of_a_model_with_one_is_not_warned_of() -> None:
    text = (
        HEAD % ", test: {trigger: true}"
        + "train: [{data: gan2:pre}, {data: gan2:pre, poison: patch-20}]\nautotest: [gan3:pre]\n"
    )
    assert kind_warnings(text) == []


def test_model_cannot_be_its_own_surrogate() -> None:
    text = (
        TRAINED
        + "test:\n  - {model: gan2:pre, data: gan3:pre, attack: transfer2, surrogate: gan2:pre}\n"
    )
    ((headline, _),) = errors(text)
    assert headline.endswith("is the model under attack")
