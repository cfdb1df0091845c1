"""Task files with the laboratory's kinds, worked out by the launcher."""

from pathlib import Path

import pytest

from launcher.api import Plan, TaskFileError
from tests.trueface.jobs import build
from trueface.jobs.kinds import POISON, SAMPLE, TEST, TRAIN, UNLEARN


def worked_out(text: str, root: Path = Path("/lab")) -> Plan:
    return build.worked_out(text, (TRAIN, TEST, POISON, UNLEARN, SAMPLE), root)


TRAINED = """
name: study
defaults: {data_root: data, split_path: splits}
train:
  - {data: gan2:pre}
"""


def errors(text: str) -> list[tuple[str, str]]:
    """Return the headline and the hint of each error."""
    with pytest.raises(TaskFileError) as caught:
        worked_out(text)
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
def test_a_model_that_the_plan_does_not_keep_is_not_used_in_it(then: str) -> None:
    text = TRAINED.replace("splits}", "splits, train: {save_weights: false}}")
    if then.startswith("unlearn"):
        text = text.replace("{data: gan2:pre}", "{data: gan2:pre, poison: 50}")
    (model,) = {job.model for job in worked_out(text).jobs if job.kind == "train"}
    assert (
        f"the training of {model} does not save the weights that this job needs",
        "set save_weights: true in the training",
    ) in errors(text + then)
    assert worked_out(text.replace("false", "true") + then).jobs


@pytest.mark.parametrize(
    ("named", "notes"),
    [
        ("gan2:pre", ("poisoned models of this file: gan2:pre%50, gan2:pre%20",)),
        ("gan2:pre%50", None),
        ("gan2:pre%50~relabel", None),
    ],
)
def test_who_unlearns_a_clean_model_hears_which_ones_are_poisoned(
    named: str, notes: tuple[str, ...] | None
) -> None:
    poisoned = "  - {data: gan2:pre, poison: [50, 20]}\n"
    wanted = "unlearn:\n  - {model: gan2:pre%50, method: relabel}\n"
    wanted += f"  - {{model: {named}, method: retrain}}\n"
    if notes is None:
        assert worked_out(f"{TRAINED}{poisoned}{wanted}").jobs
        return
    with pytest.raises(TaskFileError) as caught:
        worked_out(f"{TRAINED}{poisoned}{wanted}")
    (problem,) = caught.value.problems
    assert problem.message.startswith("gan2:pre has no flipped labels")
    assert problem.notes == notes


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "auto"])
def test_the_device_of_the_file_stands_in_the_lines(device: str) -> None:
    text = f"{TRAINED}autotest: [gan1:pre]\nresources: {{device: {device}}}\n"
    for job in worked_out(text).jobs:
        words = " ".join(job.argv)
        assert (f"--device {device}" in words) is (device != "auto")
        assert ("--device" in words) is (device != "auto")


def test_the_batch_of_a_test_is_an_eighth_of_one_that_was_written_as_text() -> None:
    text = f"{TRAINED}autotest: [gan1:pre]\n".replace("splits}", 'splits, batch_size: "16"}')
    batches = {job.kind: job.settings["batch_size"] for job in worked_out(text).jobs}
    assert batches == {"train": 16, "test": 2}


def test_models_of_the_same_images_by_other_words_are_the_same() -> None:
    words = "subsets: {a1: [Wild], b1: [Wild]}\nmodifiers: {mail: PreSocial}\n"
    text = f"{words}{TRAINED}test:\n  - {{model: b1:pre, data: gan1:pre}}\n"
    job = worked_out(text.replace("data: gan2:pre", "data: a1:mail")).jobs[-1]
    assert job.kind == "test"
    assert [need for need in job.needs if need.startswith("train/")]


def test_a_data_folder_that_no_file_system_takes_is_missing(tmp_path: Path) -> None:
    text = TRAINED.replace("data_root: data", f"data_root: {'x' * 256}")
    (missing, *_) = worked_out(text, tmp_path).missing
    assert "the data folder is missing, and no job makes it" in missing.message


# --- what a seed is for

POISONED = """
name: study
defaults: {data_root: data, split_path: splits}
"""


def draws(text: str) -> dict[str, object]:
    """Return the seed of each draw of labels, by the job that makes it."""
    made = worked_out(POISONED + text)
    return {job.name: job.settings["poison_seed"] for job in made.jobs if job.kind == "poison"}


@pytest.mark.parametrize(
    "text",
    [
        "matrix: {seed: [1, 2]}\ntrain: [{data: gan2:pre, poison: 20}]",
        "train: [{data: gan2:pre, poison: 20, matrix: {seed: [1, 2]}}]",
        "matrix: {train: {seed: [1, 2]}}\ntrain: [{data: gan2:pre, poison: 20}]",
    ],
)
def test_a_sweep_of_the_seed_draws_other_labels_each_time(text: str) -> None:
    assert draws(text) == {
        "poison/gan2:pre%20@seed=1": 1,
        "poison/gan2:pre%20@seed=2": 2,
    }


def test_the_draw_follows_the_seed_wherever_it_is_given() -> None:
    for text in (
        "train: [{data: gan2:pre, poison: 20, seed: 5}]",
        "train: [{data: gan2:pre, poison: 20, settings: {seed: 5}}]",
    ):
        assert draws(text) == {"poison/gan2:pre%20": 5}
    assert draws("unlearn: [{model: poisoned, method: relabel, seed: 5}]\n"
                 "train: [{data: gan2:pre, poison: 20}]") == {"poison/gan2:pre%20": 42}  # fmt: skip


def test_a_draw_that_is_pinned_is_made_once_for_all_seeds() -> None:
    text = (
        "matrix: {seed: [1, 2, 3, 4]}\ntrain: [{data: gan2:pre, poison: [20, 50], poison_seed: 7}]"
    )
    assert draws(text) == {"poison/gan2:pre%20@seed=1": 7, "poison/gan2:pre%50@seed=1": 7}


def test_a_list_of_images_is_not_drawn_and_serves_all_seeds() -> None:
    text = "matrix: {seed: [1, 2]}\ntrain: [{data: gan2:pre, poison: 20, poison_list: keys.txt}]"
    assert draws(text) == {"poison/gan2:pre%20@seed=1": 42}


def test_seed_and_draw_are_tied_by_a_list() -> None:
    text = (
        "matrix: [{seed: 1, poison_seed: 7}, {seed: 2, poison_seed: 8}]\n"
        "train: [{data: gan2:pre, poison: 20}]"
    )
    assert draws(text) == {
        "poison/gan2:pre%20@seed=1,poison_seed=7": 7,
        "poison/gan2:pre%20@seed=2,poison_seed=8": 8,
    }


def test_a_run_without_a_seed_of_its_own_stays_as_it_was() -> None:
    plain, said = (
        worked_out(f"{POISONED}train: [{{data: gan2:pre, poison: 20{more}}}]\nunlearn: [relabel]")
        for more in ("", ", poison_seed: 42, seed: 42")
    )
    assert [job.hash for job in plain.jobs] == [job.hash for job in said.jobs]
    assert TRAIN.settings.model_fields["seed"].default == 42
    assert POISON.settings.model_fields["poison_seed"].default == 42


def test_a_test_with_a_surrogate_comes_behind_both_models_and_needs_both() -> None:
    made = worked_out(
        TRAINED
        + "  - {data: gan1:pre}\ntest:\n"
        + "  - {model: gan2:pre, data: gan3:pre, attack: [none, transfer2], surrogate: gan1:pre}\n"
    )
    names = [job.name for job in made.jobs]
    attacked = "test/gan2:pre/gan3:pre@attack=transfer2,surrogate=gan1-pre"
    assert names == ["train/gan2:pre", "test/gan2:pre/gan3:pre", "train/gan1:pre", attacked]
    assert set(made.jobs[-1].needs) == {"train/gan2:pre", "train/gan1:pre"}
    assert made.jobs[1].needs == ("train/gan2:pre",)


def test_a_model_is_not_attacked_by_itself_in_the_role_of_another() -> None:
    text = (
        TRAINED
        + "test:\n  - {model: gan2:pre, data: gan3:pre, attack: transfer2, surrogate: gan2:pre}\n"
    )
    ((headline, _),) = errors(text)
    assert headline.endswith("is the model under attack")
