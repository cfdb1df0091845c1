"""Task files with the laboratory's kinds, worked out by the launcher."""

from pathlib import Path

import pytest

from launcher.api import Plan, TaskFileError
from tests.trueface.jobs import build
from trueface.jobs.kinds import POISON, SAMPLE, TEST, TRAIN, UNLEARN


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


def test_draw_follows_the_seed_at_all_levels() -> None:
    for text in (
        "train: [{data: gan2:pre, poison: 20, seed: 5}]",
        "train: [{data: gan2:pre, poison: 20, settings: {seed: 5}}]",
    ):
        assert poison_seeds(text) == {"poison/gan2:pre%20": 5}
    assert poison_seeds("unlearn: [{model: poisoned, method: relabel, seed: 5}]\n"
                 "train: [{data: gan2:pre, poison: 20}]") == {"poison/gan2:pre%20": 42}  # fmt: skip


def test_fixed_draw_is_made_once_for_all_seeds() -> None:
    text = (
        "matrix: {seed: [1, 2, 3, 4]}\ntrain: [{data: gan2:pre, poison: [20, 50], poison_seed: 7}]"
    )
    assert poison_seeds(text) == {"poison/gan2:pre%20@seed=1": 7, "poison/gan2:pre%50@seed=1": 7}


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


def test_model_cannot_be_its_own_surrogate() -> None:
    text = (
        TRAINED
        + "test:\n  - {model: gan2:pre, data: gan3:pre, attack: transfer2, surrogate: gan2:pre}\n"
    )
    ((headline, _),) = errors(text)
    assert headline.endswith("is the model under attack")
