"""The table of purifiers, made of what several jobs have measured."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from trueface.generators.purification.study import attack_rows, restored_folders, table
from trueface.runtime.files import Json, write_json

UNPURIFIED = {"grey": 0.1, "away": 0.3}


class Run:
    """A run's folder with metrics of folders that `restored` made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []

    def add(self, purifier: str, mse: float, **changed: Json) -> None:
        target = str(changed.get("target", "grey"))
        facts: dict[str, Json] = {
            "purifier": purifier,
            "attack": "pgd",
            "target": target,
            "over": "own",
            "adaptive": False,
            "through": "",
            "eps": 0.05,
            "seed": 1,
            "attack_seed": 1,
            "translator": "labelled:A",
            "images": 64,
            "net_calls": 10,
            "seconds": 0.5,
            "summary": {"mse": mse, "share": 0.25, "psnr": None},
            "unpurified": {"mse": UNPURIFIED.get(target, 0.0)},
            "delta": {"linf": 0.047, "rms": 0.04},
            "features": {"network": "random", "samples": 192},
            **changed,
        }
        self.names.append(f"restored@{len(self.names)}")
        folder = self.folder / "made" / self.names[-1]
        folder.mkdir(parents=True)
        write_json(folder / "metrics.json", facts)

    def adaptive(self, purifier: str, mse: float, **changed: Json) -> None:
        self.add(purifier, mse, adaptive=True, through="jpeg75", **changed)

    def rows(self) -> Mapping[str, dict[str, Json]]:
        return {
            str(row["method"]): row for row in table(self.folder, [("", n) for n in self.names])
        }


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_row_is_the_mean_over_targets_then_over_seeds(run: Run) -> None:
    for seed, more in ((1, 0.0), (2, 0.02)):
        run.add("jpeg@75", 0.01 + more, seed=seed)
        run.add("jpeg@75", 0.05 + more, target="away", seed=seed)
    row = run.rows()["jpeg@75"]
    assert row["mse"] == pytest.approx(0.04)
    assert row["mse_sd"] == pytest.approx(0.02 / 2**0.5)
    assert row["mse_grey"] == pytest.approx(0.02)
    assert row["mse_away"] == pytest.approx(0.06)
    assert (row["seeds"], row["images"], row["net_calls"]) == (2, 64, 10)
    assert row["psnr"] is None


def test_settings_that_differ_make_rows_of_their_own_and_seeds_of_models_do_not(run: Run) -> None:
    for diffuser, mse in (("a:x@seed=1", 0.01), ("a:x@seed=2", 0.03), ("b:x", 0.2)):
        run.add("ddpm@10", mse, purifier_settings={"diffuser": diffuser})
    for steps, mse in ((10, 0.1), (50, 0.3)):
        run.add("none", mse, attack_settings={"steps": steps, "eot": 1})
    rows = run.rows()
    assert {name: rows[name]["mse"] for name in rows if name != "none"} == {
        "ddpm@10 (diffuser=a:x)": pytest.approx(0.02),
        "ddpm@10 (diffuser=b:x)": pytest.approx(0.2),
    }
    assert (rows["ddpm@10 (diffuser=a:x)"]["seeds"], rows["ddpm@10 (diffuser=b:x)"]["seeds"]) == (
        2,
        1,
    )
    folders = restored_folders(run.folder / "made" / name for name in run.names)
    assert {row.name: row.mean("mse") for row in attack_rows(folders)} == {
        "pgd (steps=10)": pytest.approx(0.1),
        "pgd (steps=50)": pytest.approx(0.3),
    }


def test_unpurified_images_count_once_for_all_purifier_seeds(
    run: Run,
) -> None:
    for attack_seed in (1, 2):
        for seed in (1, 2, 3):
            run.add("ddpm@10", 0.01, seed=seed, attack_seed=attack_seed)
            run.add("none", 0.08 + 0.02 * attack_seed, seed=seed, attack_seed=attack_seed)
    rows = run.rows()
    assert (rows["none"]["seeds"], rows["ddpm@10"]["seeds"]) == (2, 6)
    assert rows["none"]["mse"] == pytest.approx(0.11)
    assert rows["none"]["mse_sd"] == pytest.approx(0.02 / 2**0.5)


def test_one_seed_has_no_spread(run: Run) -> None:
    run.add("jpeg@75", 0.01)
    assert not any(key.endswith("_sd") for key in run.rows()["jpeg@75"])


def test_adaptive_attacks_and_original_images_have_separate_columns(run: Run) -> None:
    run.add("jpeg@75", 0.01)
    run.adaptive("jpeg@75", 0.04)
    run.add("jpeg@75", 0.007, attack="", target="", over="", eps=None)
    row = run.rows()["jpeg@75"]
    assert (row["mse"], row["mse_adaptive"], row["price_clean"]) == (0.01, 0.04, 0.007)
    assert row["mse_adaptive_grey"] == 0.04


DEFENDED = "labelled:A@adversarial=both"


def add_defended(
    run: Run, mse: float, *, purifier: str = "none", seed: int = 1, **changed: Json
) -> None:
    """Add a measurement of a generator that is the defence."""
    translator = f"{DEFENDED},seed={seed}"
    facts: dict[str, Json] = {"translator": translator, "reference": "labelled:A"}
    summary: dict[str, Json] = {"mse": mse, "reference_mse": mse + 0.02}
    run.add(purifier, mse, **{**facts, "summary": summary, **changed})


def test_defended_generator_has_a_row_like_a_purifier(run: Run) -> None:
    run.add("none", 0.1)
    run.add("jpeg@75", 0.01)
    for seed in (1, 2):
        add_defended(run, 0.01 * seed, seed=seed)
        add_defended(run, 0.02 * seed, seed=seed, adaptive=True, through="its own ID")
        add_defended(run, 0.0, seed=seed, attack="", target="", over="", eps=None)
        add_defended(run, 0.5, seed=seed, through="another ID")  # not of this defence
    rows = run.rows()
    assert list(rows) == ["none", "jpeg@75", DEFENDED]
    row = rows[DEFENDED]
    assert row["mse"] == pytest.approx(0.015)
    assert row["mse_adaptive"] == pytest.approx(0.03)
    assert row["mse_adaptive_grey"] == pytest.approx(0.03)
    assert row["price_clean"] == pytest.approx(0.02)
    assert (row["reference_mse"], row["reference_mse_adaptive"]) == pytest.approx((0.035, 0.05))
    assert row["seeds"] == 2
    assert row["verdict"] == "restores under the adaptive attack"
    assert rows["none"]["mse"] == 0.1
    assert not any("reference_mse" in rows[name] for name in ("none", "jpeg@75"))


def test_generator_that_its_own_disruption_breaks_is_no_defence(run: Run) -> None:
    add_defended(run, 0.01)
    add_defended(run, 0.06, adaptive=True, through="its own ID")
    assert run.rows()[DEFENDED]["verdict"] == "broken by the adaptive attack"


def test_generator_that_differs_only_in_its_seed_keeps_the_seed_in_its_row(run: Run) -> None:
    control = "labelled:A@seed=2"
    add_defended(run, 0.01, translator=control)
    add_defended(run, 0.02, purifier="jpeg@75", translator=control)
    assert list(run.rows()) == [control, f"jpeg@75, {control}"]


def test_errors_to_two_undefended_generators_count_as_two_values(run: Run) -> None:
    for number, reference in enumerate(("labelled:A", "labelled:A@seed=2")):
        add_defended(run, 0.01 + 0.01 * number, reference=reference)
        add_defended(run, 0.02 + 0.02 * number, reference=reference, target="away")
    row = run.rows()[DEFENDED]
    assert row["seeds"] == 2
    assert row["mse_sd"] == pytest.approx(0.015 / 2**0.5)


def test_purifier_before_a_defended_generator_has_a_row_of_its_own(run: Run) -> None:
    add_defended(run, 0.01)
    add_defended(run, 0.005, purifier="jpeg@75")
    assert list(run.rows()) == [DEFENDED, f"jpeg@75, {DEFENDED}"]


def test_attacks_are_measured_on_the_undefended_generator(run: Run) -> None:
    run.add("none", 0.1)
    add_defended(run, 0.01)
    (attack,) = attack_rows(restored_folders(run.folder / "made" / name for name in run.names))
    assert attack.record["mse"] == 0.1


def test_random_signs_do_not_count_as_an_attack(run: Run) -> None:
    run.add("jpeg@75", 0.01)
    run.add("jpeg@75", 0.0, attack="random")
    assert run.rows()["jpeg@75"]["mse"] == 0.01


def test_images_attacked_against_another_purifier_are_excluded(run: Run) -> None:
    run.add("blur@1", 0.01)
    run.add("blur@1", 0.5, through="jpeg75")
    row = run.rows()["blur@1"]
    assert (row["mse"], row["mse_adaptive"]) == (0.01, None)


@pytest.mark.parametrize(
    ("mse", "adaptive", "verdict"),
    [
        (0.01, None, "adaptive: not measured"),
        (0.01, 0.05, "restores under the adaptive attack"),
        (0.01, 0.06, "broken by the adaptive attack"),
        (0.06, 0.01, "does not restore"),
    ],
)
def test_verdict_uses_the_stronger_of_both_attacks(
    run: Run, mse: float, adaptive: float | None, verdict: str
) -> None:
    run.add("none", 0.1)
    run.add("jpeg@75", mse)
    if adaptive is not None:
        run.adaptive("jpeg@75", adaptive)
    assert run.rows()["jpeg@75"]["verdict"] == verdict


def test_adaptive_attack_is_compared_with_the_same_target(run: Run) -> None:
    """0.06 is more than half of the error of the attack towards grey, but not of the mean of both."""
    run.add("jpeg@75", 0.01)
    run.add("jpeg@75", 0.02, target="away")
    run.adaptive("jpeg@75", 0.06)
    assert run.rows()["jpeg@75"]["verdict"] == "broken by the adaptive attack"


def test_without_a_purifier_every_attack_is_adaptive(run: Run) -> None:
    run.add("jpeg@75", 0.01)
    run.add("none", 0.1)
    rows = run.rows()
    assert list(rows) == ["none", "jpeg@75"]
    assert rows["none"]["mse_adaptive"] == 0.1
    assert rows["none"]["verdict"] == "nothing is purified"


def test_columns_name_the_attack_if_there_are_several(run: Run) -> None:
    run.add("jpeg@75", 0.1)
    run.add("jpeg@75", 0.2, attack="fgsm", over="all")
    row = run.rows()["jpeg@75"]
    assert (row["mse_pgd_grey"], row["mse_fgsm_grey_all"]) == (0.1, 0.2)
    assert row["attacks"] == "pgd grey, fgsm grey all"


def test_attacks_of_another_size_are_separate(run: Run) -> None:
    run.add("jpeg@75", 0.1)
    run.add("jpeg@75", 0.5, eps=0.1)
    row = run.rows()["jpeg@75"]
    assert (row["mse_grey"], row["mse_grey_eps_0.1"]) == (0.1, 0.5)
    assert row["attacks"] == "pgd grey, pgd grey eps 0.1"


def test_adaptive_attack_is_compared_with_one_of_its_size(run: Run) -> None:
    run.add("jpeg@75", 0.01)
    run.add("jpeg@75", 0.2, eps=0.1, unpurified={"mse": 0.9})
    run.adaptive("jpeg@75", 0.06)
    assert run.rows()["jpeg@75"]["verdict"] == "broken by the adaptive attack"


def test_no_purification_has_no_cost(run: Run) -> None:
    run.add("none", 0.1)
    run.add("jpeg@75", 0.01)
    rows = run.rows()
    assert (rows["none"]["price_clean"], rows["jpeg@75"]["price_clean"]) == (0, None)


def test_row_without_a_purifier_covers_the_attacks_of_the_other_rows(run: Run) -> None:
    run.add("none", 0.1)
    run.add("none", 0.9, attack="fgsm")
    run.add("jpeg@75", 0.01)
    row = run.rows()["none"]
    assert (row["mse"], row["mse_grey"], row["attacks"]) == (0.1, 0.1, "pgd grey")


def test_unfinished_folders_are_left_out(run: Run) -> None:
    run.add("none", 0.1)
    run.names.append("restored@later")
    assert list(run.rows()) == ["none"]


def test_attacks_are_listed_next_to_their_control(run: Run) -> None:
    run.add("none", 0.1)
    run.add("none", 0.3, target="away")
    run.add("none", 0.005, attack="random")
    run.add("none", 0.005, attack="random", target="away")
    run.add("jpeg@75", 0.01)
    run.adaptive("none", 0.9)
    folders = [run.folder / "made" / name for name in run.names]
    rows = [row.record for row in attack_rows(restored_folders(folders))]
    assert [(row["attack"], row["target"]) for row in rows] == [
        ("random", ""), ("pgd", "grey"), ("pgd", "away"),
    ]  # fmt: skip
    assert [row["ratio"] for row in rows] == [1, pytest.approx(20), pytest.approx(60)]
