from pathlib import Path
from typing import Any

import pytest

from launcher.api import UnknownName, parse_data
from launcher.experiments.kind_interface import Role
from launcher.experiments.kinds import installed_kinds
from launcher.experiments.taskfile.entries import kind_of_role
from tests.trueface.class_toys import NAMES, a_draft, write_data
from trueface.jobs.classes.kinds import CLASSIFY, FORGET
from trueface.unlearning.settings import differences

BASE, MODEL = "folders:all", "folders:all~lau"


def forget_refusals(root: Path, **changed: Any) -> tuple[str, ...]:
    facts = {"model": MODEL, "base": BASE, "method": "lau", **changed}
    makers = [a_draft(CLASSIFY, root, model=BASE)]
    return FORGET.refusals(a_draft(FORGET, root, **facts), makers)


def test_kinds_of_roles_stay_within_their_lab() -> None:
    kinds = installed_kinds()
    assert kind_of_role(kinds, kinds["forget"], Role.TRAIN) is kinds["classify"]
    assert kind_of_role(kinds, kinds["unlearn"], Role.TRAIN) is kinds["train"]
    assert kind_of_role(kinds, kinds["train"], Role.TEST) is kinds["test"]


def test_words_of_data_ids_are_validated() -> None:
    data = parse_data("cifar10:all")
    assert CLASSIFY.images(data) == CLASSIFY.elementary(data) == data
    with pytest.raises(UnknownName, match="Did you mean 'fashion'"):
        CLASSIFY.images(parse_data("fashoin:all"))


def test_unlearning_reads_data_and_base_and_writes_a_record(tmp_path: Path) -> None:
    draft = a_draft(FORGET, tmp_path, model=MODEL, base=BASE, method="lau")
    read = [str(one.path.relative_to(tmp_path)) for one in FORGET.inputs(draft)]
    assert read == ["data", "runs/r/folders:all/checkpoints/best.pt"]
    made = [path.name for path in FORGET.outputs(draft)]
    assert made == ["best.pt", "unlearning.json"]


def test_valid_jobs_are_accepted_with_or_without_data(tmp_path: Path) -> None:
    assert forget_refusals(tmp_path) == ()
    assert forget_refusals(write_data(tmp_path, train=1, test=1)) == ()
    assert CLASSIFY.refusals(a_draft(CLASSIFY, tmp_path, model=BASE), ()) == ()


def test_unknown_class_is_rejected_with_a_list_of_classes(tmp_path: Path) -> None:
    (reason,) = forget_refusals(write_data(tmp_path, train=1, test=1), forget_class="violet")
    assert "class 'violet' to forget does not exist" in reason
    assert all(name in reason for name in NAMES)


def test_several_datasets_are_reported_once(tmp_path: Path) -> None:
    several = "cifar10:all&fashion:all"
    (reason,) = forget_refusals(tmp_path, model=f"{several}~lau", data=several)
    assert "names several data sets" in reason


def test_data_folder_of_an_unknown_user_is_a_fault(tmp_path: Path) -> None:
    reasons = forget_refusals(tmp_path, data_root="~no-such-user/data")
    assert "no-such-user" in reasons[-1]


def test_image_unlearning_takes_no_class_and_runs_only_once(tmp_path: Path) -> None:
    there = write_data(tmp_path, train=1, test=1)
    wanted = {"forget_fraction": 0.1, "forget_class": "violet"}
    assert forget_refusals(there, method="rl", model="folders:all~rl", **wanted) == ()
    (reason,) = forget_refusals(there, method="relabel", model="folders:all~relabel", **wanted)
    assert "no label is flipped" in reason
    makers = [
        a_draft(CLASSIFY, there, model=BASE),
        a_draft(FORGET, there, model=MODEL, base=BASE, method="lau"),
    ]
    again = a_draft(
        FORGET, there, model=f"{MODEL}~rl", base=MODEL, method="rl", forget_fraction=0.1
    )
    (reason,) = FORGET.refusals(again, makers)
    assert reason.startswith(
        f"{MODEL} is already an unlearned model, and unlearning cannot be repeated"
    )


def test_base_from_version_without_test_list_seed_is_accepted() -> None:
    used = {"seed": 1, "split_seed": 42}
    assert list(differences({"seed": 1}, used)) == []
    assert list(differences({"seed": 2, "split_seed": 3}, used)) == ["seed", "split_seed"]


def test_unsuitable_methods_are_rejected_unless_forced(tmp_path: Path) -> None:
    (reason,) = forget_refusals(tmp_path, method="relabel", model="folders:all~relabel")
    assert "no label is flipped" in reason
    assert (
        forget_refusals(tmp_path, method="relabel", model="folders:all~relabel", force=True) == ()
    )
    for name in ("ada", "bob"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (reason,) = forget_refusals(tmp_path)
    assert "forgetting one of two classes leaves one class" in reason
    assert forget_refusals(tmp_path, force=True) == ()


@pytest.mark.parametrize("changed", [{"seed": 7}, {"size": 20}, {"images_per_class": 3}])
def test_unlearning_requires_images_and_network_of_its_base(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    (reason,) = forget_refusals(tmp_path, **changed)
    assert f"is trained with {next(iter(changed))}" in reason


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"model": f"{BASE}%50"}, "does not support flipped labels"),
        ({"model": f"{BASE}#{BASE}", "base": BASE}, "does not start from another model"),
        ({"model": "cifar10:all&fashion:all", "data": "cifar10:all&fashion:all"}, "several"),
        ({"model": BASE, "gpus": 2}, "one GPU"),
    ],
)
def test_poison_base_several_datasets_and_idle_gpus_are_rejected(
    tmp_path: Path, facts: dict[str, Any], said: str
) -> None:
    assert said in CLASSIFY.refusals(a_draft(CLASSIFY, tmp_path, **facts), ())[0]
