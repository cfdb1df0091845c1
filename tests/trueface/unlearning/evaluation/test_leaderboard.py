"""The leaderboard: order of rows, means over seeds, each seed with its own references."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from tests.trueface.unlearning.unlearned_runs import (
    change_classes,
    class_predictions,
    flip_predictions,
    make_predictions,
    make_record,
    write_unlearning,
)
from trueface.data.dataset_file import write_video_sources
from trueface.runtime import paths
from trueface.runtime.files import Json, write_json
from trueface.unlearning.evaluation.alarms import AlarmKind
from trueface.unlearning.evaluation.leaderboard import (
    UnlearningGroup,
    UnlearningRow,
    make_unlearning_leaderboard,
)
from trueface.unlearning.evaluation.measures import unlearning_score
from trueface.unlearning.record import NoiseSearchResult, Probe, Relearn

BASE = "gan:pre%20"
OF_CLASS: dict[str, Any] = {
    "goal": "class", "classes": 3, "class_names": ("a", "b", "c"), "forgotten": (2,), "rate": None,
}  # fmt: skip
OTHER_RECIPE = "retrain was trained with other settings than the model before (num_epochs 1, not 6)"
PER_SEED = {0: 0, 1: 2, 2: 1}  # wrong answers that another seed adds


def with_seed(base: str, seed: int) -> str:
    """Return an ID with a swept seed."""
    return f"{base}@seed={seed}"


def write_flip_unlearning(
    run: Path, method: str, wrong: int, *, seed: int = 0, **changed: Any
) -> Path:
    """Write an unlearning of one seed; the base has 24 wrong predictions of 80."""
    model, base = with_seed(f"{BASE}~{method}", seed), with_seed(BASE, seed)
    before, after = (
        flip_predictions(24, follows=30),
        flip_predictions(wrong + PER_SEED[seed], seed=seed),
    )
    return write_unlearning(run, make_record(model, base, seed=seed, **changed), before, after)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of three methods and two references, which no test changes."""
    run = tmp_path_factory.mktemp("study")
    for seed in (0, 1):
        write_flip_unlearning(run, "scrub", 8, seed=seed)
        write_flip_unlearning(run, "retrain", 4, seed=seed, seconds=100.0)
        write_flip_unlearning(run, "corrected", 4, seed=seed)
        write_flip_unlearning(run, "finetune", 20, seed=seed)
    write_flip_unlearning(run, "aaa", 8)
    return run


def only_group(run: Path) -> UnlearningGroup:
    """Return the one group of a run."""
    (group,) = make_unlearning_leaderboard(run).groups
    return group


@pytest.fixture(scope="module")
def group(study: Path) -> UnlearningGroup:
    """Return the one group of the study."""
    return only_group(study)


def find_row(group: UnlearningGroup, name: str) -> UnlearningRow:
    """Return a row by its name."""
    return next(one for one in group.rows if one.name == name)


def test_rows_start_with_the_references(group: UnlearningGroup) -> None:
    assert [one.name for one in group.rows] == [
        "before", "corrected", "retrain", "finetune", "scrub", "aaa",
    ]  # fmt: skip
    assert group.base == BASE
    assert find_row(group, "scrub").seeds == (0, 1)
    assert find_row(group, "aaa").seeds == (0,)


def test_predictions_too_large_for_memory_leave_the_other_models_measured(tmp_path: Path) -> None:
    write_flip_unlearning(tmp_path, "scrub", 8)
    run = write_flip_unlearning(tmp_path, "ng", 8)
    count = 1 << 24  # labels of 128 MiB
    np.savez(
        paths.predictions_after(run),
        test_trained=np.zeros(count, np.int64),
        test_logits=np.zeros((1, 2), np.float32),
    )
    program = (
        "import json, resource, sys\n"
        "from pathlib import Path\n"
        "from trueface.unlearning.evaluation.leaderboard import make_unlearning_leaderboard as read\n"
        "read(Path(sys.argv[1]))\n"  # whatever is loaded late has its memory
        "taken = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 26),) * 2)\n"
        "(group,) = read(Path(sys.argv[1])).groups\n"
        "print(json.dumps({row.name: row.reasons.get('answers') for row in group.rows}))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    reasons = json.loads(ended.stdout)
    assert "not enough memory" in reasons["ng"]
    assert reasons["scrub"] is reasons["before"] is None


def test_ruined_model_is_below_the_working_ones_with_its_verdict(tmp_path: Path) -> None:
    guess, lost = flip_predictions(4), flip_predictions(4)
    guess["test"].logits[:] = np.random.default_rng(0).normal(size=(80, 2))
    truth, names = lost["test"].true_labels.tolist(), lost["test"].ids
    lost["test"] = make_predictions(truth, change_classes(truth, 26), true=truth, ids=names)
    made = {
        "retrain": flip_predictions(4),
        "scrub": flip_predictions(5, seed=3),
        "finetune": guess,
        "ng": guess,
        "npo": lost,
    }
    for method, after in made.items():
        write_unlearning(
            tmp_path,
            make_record(f"{BASE}~{method}@seed=0", f"{BASE}@seed=0"),
            flip_predictions(4),
            after,
        )
    group = only_group(tmp_path)
    assert [(one.name, one.verdict) for one in group.rows] == [
        ("before", ""), ("retrain", ""), ("scrub", ""), ("finetune", "chance"), ("ng", "chance"),
        ("npo", "kept accuracy lost"),
    ]  # fmt: skip


def test_swept_settings_form_separate_rows(tmp_path: Path) -> None:
    for lr in ("0.1", "0.2"):
        model = f"{BASE}~ng@lr={lr},unlearn.seed=3"
        write_unlearning(
            tmp_path, make_record(model, BASE), flip_predictions(24), flip_predictions(8)
        )
    assert [one.name for one in only_group(tmp_path).rows] == ["before", "ng lr=0.1", "ng lr=0.2"]


def test_other_bases_known_fractions_and_draws_form_separate_groups(tmp_path: Path) -> None:
    given: tuple[tuple[str, str, float], ...] = (
        ("ng", BASE, 1.0),
        ("ng", "gan:pre%50", 0.5),
        *(("retrain", f"{BASE}@poison_seed={draw}", 1.0) for draw in (7, 8)),
    )
    for method, base, known in given:
        name, at, variant = base.partition("@")
        record = make_record(f"{name}~{method}{at}{variant}", base, known=known)
        write_unlearning(tmp_path, record, flip_predictions(24), flip_predictions(8))
    found = [(group.base, group.known) for group in make_unlearning_leaderboard(tmp_path).groups]
    assert sorted(found) == sorted((base, known) for _, base, known in given)


def test_forgotten_class_has_separate_measures(tmp_path: Path) -> None:
    lau = make_record(
        "cifar~lau",
        "cifar",
        **OF_CLASS,
        relearn=Relearn(steps=3, most=50, loss=0.1),
        probe=Probe(before=1.0, after=0.99, chance=0.5),
    )
    retrain = make_record(
        "cifar~retrain", "cifar", **OF_CLASS, relearn=Relearn(steps=12, most=50, loss=0.1)
    )
    write_unlearning(tmp_path, lau, class_predictions(40), class_predictions(0, wrong=3))
    write_unlearning(tmp_path, retrain, class_predictions(40), class_predictions(0))
    group = only_group(tmp_path)
    one = find_row(group, "lau")
    assert one.values["us"].mean == pytest.approx(unlearning_score(100 * 77 / 80, 0))
    assert one.values["test_forget"].mean == 0
    assert find_row(group, "before").values["test_forget"].mean == 1
    assert one.values["probe"].mean == 0.99
    assert one.values["relearn"].mean == 3
    assert one.values["anamnesis"].mean == 0.25
    assert one.reasons["recovery"] == "no label was flipped"


def test_found_labels_and_backdoor_rates_are_reported(tmp_path: Path) -> None:
    record = make_record(
        f"{BASE}~ng",
        BASE,
        found=NoiseSearchResult(flagged=10, hidden=8, right=6, expected_precision=0.5),
        attack=0.1,
        attack_before=0.9,
    )
    write_unlearning(tmp_path, record, flip_predictions(24), flip_predictions(8))
    group = only_group(tmp_path)
    values = find_row(group, "ng").values
    assert (values["found_precision"].mean, values["found_recall"].mean) == (0.6, 0.75)
    assert any("from the known ones is 0.50" in note for note in find_row(group, "ng").notes)
    assert (values["attack"].mean, find_row(group, "before").values["attack"].mean) == (0.1, 0.9)


def test_damaged_record_is_reported_and_the_rest_is_shown(tmp_path: Path) -> None:
    write_flip_unlearning(tmp_path, "scrub", 8)
    bad = tmp_path / "bad"
    bad.mkdir()
    paths.unlearning(bad).write_text("{")
    found = make_unlearning_leaderboard(tmp_path)
    assert len(found.groups) == 1
    assert "damaged" in found.troubles[0]


def test_single_model_folder_is_accepted(study: Path) -> None:
    folder = study / paths.model_folder("model", with_seed(f"{BASE}~scrub", 0))
    assert [one.name for one in only_group(folder).rows] == ["before", "scrub"]


def test_run_without_unlearning_has_no_group_and_no_error(tmp_path: Path) -> None:
    assert make_unlearning_leaderboard(tmp_path) == (tmp_path.name, (), ())


def test_method_that_knew_half_of_the_wrong_labels_is_compared_with_references_that_knew_all(
    tmp_path: Path,
) -> None:
    for method, wrong in (("retrain", 6), ("corrected", 4)):
        write_flip_unlearning(tmp_path, method, wrong)
    half = make_record(f"{BASE}~relabel@known=0.5,seed=0", f"{BASE}@seed=0", known=0.5)
    write_unlearning(tmp_path, half, flip_predictions(24), flip_predictions(8))
    group = only_group(tmp_path)
    assert [one.method for one in group.rows] == ["before", "corrected", "retrain", "relabel"]
    one = find_row(group, "relabel known=0.5")
    assert one.values["recovery"].mean == pytest.approx(16 / 20)
    assert one.values["gap_test"].mean == pytest.approx(2 / 80)
    assert not any("nothing was retrained" in note for note in group.notes)
    assert group.known == 1.0


def test_known_fraction_of_a_group_is_that_of_all_its_methods(tmp_path: Path) -> None:
    half = make_record(f"{BASE}~relabel@known=0.5,seed=0", f"{BASE}@seed=0", known=0.5)
    write_unlearning(tmp_path, half, flip_predictions(24), flip_predictions(8))
    assert only_group(tmp_path).known == 0.5


def test_change_is_reported_over_the_seeds_that_both_have(tmp_path: Path) -> None:
    for seed, wrong in ((0, 4), (1, 12), (2, 8)):
        base = f"{BASE}@seed={seed}"
        write_unlearning(
            tmp_path,
            make_record(f"{BASE}~retrain@seed={seed}", base, seed=seed),
            flip_predictions(24),
            flip_predictions(wrong),
        )
    done = make_record(f"{BASE}~ng@seed=0", f"{BASE}@seed=0", seed=0)
    write_unlearning(tmp_path, done, flip_predictions(24), flip_predictions(24))
    (alarm,) = [
        one
        for one in find_row(only_group(tmp_path), "ng").alarms
        if one.alarm_kind is AlarmKind.NOISE
    ]
    assert "changed by +0.00 points" in alarm.text


@pytest.mark.parametrize("seeds", [(1, 2), (1, 2, 42)])
def test_base_of_unlearnings_of_several_seeds_counts_once(
    tmp_path: Path, seeds: tuple[int, ...]
) -> None:
    before = flip_predictions(24, follows=30)
    for seed in seeds:
        for method, wrong in (("retrain", 4), ("scrub", 8)):
            variant = "" if seed == 42 else f"@unlearn.seed={seed}"
            record = make_record(f"{BASE}~{method}{variant}", BASE, seed=seed)
            write_unlearning(
                tmp_path, record, before, flip_predictions(wrong + PER_SEED.get(seed, 0), seed=seed)
            )
    (tmp_path / BASE).mkdir()
    write_json(paths.provenance(tmp_path / BASE), {"settings": {"seed": 7}})
    rows = {one.name: one for one in only_group(tmp_path).rows}
    assert {name: one.seeds for name, one in rows.items()} == {
        "before": (7,), "retrain": seeds, "scrub": seeds,
    }  # fmt: skip
    for name in ("test", "test_low", "test_high", "seconds", "gap_test"):
        value = rows["before"].values[name]
        assert (value.seeds, value.sd, len(value.values)) == (1, None, 1), name
    assert rows["before"].values["test"].mean == pytest.approx(56 / 80)
    assert rows["before"].values["gap_test"].mean == pytest.approx(
        fmean((24 - 4 - PER_SEED.get(seed, 0)) / 80 for seed in seeds)
    )
    assert rows["retrain"].values["test"].seeds == rows["scrub"].values["test"].seeds == len(seeds)
    assert not any(alarm.text.startswith("seed ") for alarm in rows["before"].alarms)


def test_two_bases_count_twice_for_any_number_of_unlearnings(tmp_path: Path) -> None:
    for seed in (0, 1):
        for own in (3, 4):
            model = f"{BASE}~scrub@seed={seed},unlearn.seed={own}"
            record = make_record(model, f"{BASE}@seed={seed}", seed=own)
            write_unlearning(
                tmp_path, record, flip_predictions(20 + 8 * seed, follows=30), flip_predictions(8)
            )
    before, scrub = only_group(tmp_path).rows
    assert (before.seeds, scrub.seeds) == ((0, 1), (3, 3, 4, 4))
    assert before.values["test"].values == (60 / 80, 52 / 80)


def test_draw_swept_with_the_seed_is_part_of_the_repetition(tmp_path: Path) -> None:
    for seed, draw in ((0, 7), (1, 8)):
        variant = f"@seed={seed},poison_seed={draw}"
        for method, wrong in (("retrain", 4), ("scrub", 8)):
            said = make_record(f"{BASE}~{method}{variant}", f"{BASE}{variant}", seed=seed)
            write_unlearning(
                tmp_path,
                said,
                flip_predictions(24, follows=30),
                flip_predictions(wrong + PER_SEED[seed], seed=seed),
            )
    group = only_group(tmp_path)
    assert group.base == BASE
    assert find_row(group, "scrub").seeds == (0, 1)


def test_draws_of_one_seed_all_count_for_the_noise_test(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        for draw, wrong in ((7, 8), (8, 22)):  # with the first draw much has changed
            variant = f"@seed={seed},poison_seed={draw + 10 * seed}"
            for method, left in (("retrain", 4), ("ng", wrong)):
                told_of = make_record(f"{BASE}~{method}{variant}", f"{BASE}{variant}", seed=seed)
                after = flip_predictions(left + PER_SEED[seed], seed=seed)
                write_unlearning(tmp_path, told_of, flip_predictions(24, follows=30), after)
    group = only_group(tmp_path)
    assert find_row(group, "ng").values["test"].seeds == 6
    assert find_row(group, "ng").alarms == ()


@pytest.mark.parametrize("seeds", [2, 3])
def test_change_within_the_noise_of_three_retrained_seeds_is_reported(
    tmp_path: Path, seeds: int
) -> None:
    for seed in range(seeds):
        write_flip_unlearning(tmp_path, "retrain", 4, seed=seed)
        write_flip_unlearning(tmp_path, "ng", 22, seed=seed)
    group = only_group(tmp_path)
    noise = [AlarmKind.NOISE] if seeds == 3 else []
    assert [one.alarm_kind for one in find_row(group, "ng").alarms] == noise
    assert find_row(group, "retrain").alarms == ()
    assert find_row(group, "ng").verdict == ""
    few = any("of at least 3 seeds, and there are 2" in note for note in group.notes)
    assert few == (seeds == 2)
    assert any("no corrected model" in note for note in group.notes)


def test_unmeasured_values_have_a_reason(tmp_path: Path) -> None:
    parts = flip_predictions(8)
    del parts["retain"]
    never = Relearn(steps=None, most=50, loss=0.1)
    write_unlearning(
        tmp_path,
        make_record(f"{BASE}~ng", BASE, relearn=never),
        flip_predictions(24),
        flip_predictions(22),
    )
    write_unlearning(tmp_path, make_record(f"{BASE}~rl", BASE), flip_predictions(24), parts)
    write_unlearning(tmp_path, make_record("other~ng", "other"), None, None)
    group, other = sorted(make_unlearning_leaderboard(tmp_path).groups, key=lambda one: one.base)
    one = find_row(group, "ng")
    assert one.values["of_training"].mean == 0.05
    assert "gap" not in one.values
    assert "no model was retrained" in one.reasons["gap"]
    assert "no model was retrained" in one.reasons["of_retrain"]
    assert one.reasons["relearn"] == "not within 50 steps"
    assert "no predictions for retain" in find_row(group, "rl").reasons["answers"]
    for name in ("ng", "before"):
        assert "cannot read the predictions" in find_row(other, name).reasons["answers"]


def test_predictions_of_an_empty_forget_set_have_reasons(tmp_path: Path) -> None:
    for method in ("scrub", "retrain"):
        before, after = flip_predictions(24, follows=30), flip_predictions(8)
        for parts in (before, after):
            parts["forget"] = parts["forget"].rows(np.arange(0))
        write_unlearning(tmp_path, make_record(f"{BASE}~{method}", BASE), before, after)
    (group,) = make_unlearning_leaderboard(tmp_path, svc_attacks=True).groups
    reasons = find_row(group, "scrub").reasons
    assert reasons["forget"] == reasons["kl_forget"] == "there are no such samples"
    assert reasons["mia_loss"] == reasons["mia_svc_entropy"] == "nothing was forgotten"


def test_broken_seed_raises_the_alarm_and_has_no_measures(tmp_path: Path) -> None:
    write_flip_unlearning(tmp_path, "retrain", 4)
    write_flip_unlearning(tmp_path, "scrub", 8)
    broken = flip_predictions(8)
    broken["test"].logits[0] = math.nan
    for method, seed in (("ng", 0), ("scrub", 1)):
        record = make_record(f"{BASE}~{method}@seed={seed}", f"{BASE}@seed={seed}", seed=seed)
        write_unlearning(tmp_path, record, flip_predictions(24), broken)
    one = find_row(only_group(tmp_path), "ng")
    assert [alarm.alarm_kind for alarm in one.alarms] == [AlarmKind.BROKEN]
    assert "test" not in one.values
    assert "are not finite" in one.reasons["answers"]
    assert one.values["seconds"].mean == 10
    (alarm,) = find_row(only_group(tmp_path), "scrub").alarms
    assert alarm.text.startswith("seed 1: ")


def test_unchanged_model_is_reported(tmp_path: Path) -> None:
    write_flip_unlearning(tmp_path, "retrain", 4)
    same = flip_predictions(24, follows=30)
    write_unlearning(tmp_path, make_record(f"{BASE}~ng@seed=0", f"{BASE}@seed=0"), same, same)
    write_unlearning(
        tmp_path,
        make_record("cifar~lau", "cifar", **OF_CLASS),
        class_predictions(0),
        class_predictions(0),
    )
    of_class, of_flips = sorted(
        make_unlearning_leaderboard(tmp_path).groups, key=lambda one: one.base
    )
    assert find_row(of_flips, "ng").verdict == "untouched"
    assert AlarmKind.NEVER_KNOWN in {alarm.alarm_kind for alarm in find_row(of_class, "lau").alarms}


def test_measure_is_the_mean_over_seeds(group: UnlearningGroup) -> None:
    means = {
        ("scrub", "test"): 1 - 9 / 80,
        # each seed beside its own references
        ("scrub", "gap_test"): 4 / 80,
        ("scrub", "recovery"): (16 / 20 + 14 / 18) / 2,
        ("scrub", "of_retrain"): 0.1,
        ("scrub", "of_training"): 0.05,
        ("retrain", "gap"): 0,
        ("retrain", "tow"): 1,
        ("corrected", "recovery"): 1,
        ("before", "recovery"): 0,
        ("before", "forget"): 30 / 40,
        ("before", "seconds"): 200,
        ("before", "samples"): 6400,
    }
    found = {(row, name): find_row(group, row).values[name].mean for row, name in means}
    assert found == pytest.approx(means)


def test_deviations_are_over_seeds_and_no_value_is_nan(group: UnlearningGroup) -> None:
    values = find_row(group, "scrub").values
    assert values["test"].sd == pytest.approx((2 / 80) / math.sqrt(2))
    assert len(values["test"].values) == values["test"].seeds == 2
    assert find_row(group, "aaa").values["test"].sd is None
    assert values["gap_test"].sd == pytest.approx(0)
    assert values["of_retrain"].sd == 0  # equal seeds do not differ by a rounding error
    assert values["recovery_low"].mean < values["recovery"].mean < values["recovery_high"].mean
    for one in group.rows:
        assert all(math.isfinite(value.mean) for value in one.values.values())
        assert not set(one.reasons) & set(one.values)


def test_references_are_those_that_were_given_all_wrong_labels(tmp_path: Path) -> None:
    wrong = {("retrain", 0.5): 20, ("retrain", 1.0): 4, ("corrected", 0.5): 16}
    for (method, known), count in wrong.items():
        variant = f"@known={known},seed=0"
        record = make_record(f"{BASE}~{method}{variant}", f"{BASE}@seed=0", known=known)
        write_unlearning(tmp_path, record, flip_predictions(24), flip_predictions(count))
    write_flip_unlearning(tmp_path, "relabel", 8)
    group = only_group(tmp_path)
    values = find_row(group, "relabel").values
    assert values["gap_test"].mean == pytest.approx(4 / 80)
    assert values["recovery"].mean == pytest.approx(16 / 20)
    notes = " ".join(group.notes)
    assert "gaps and × retrain are relative to retrain known=1.0, not to retrain known=0.5" in notes
    assert "corrected known=0.5 was given only 0.5 of the flipped labels" in notes
    assert "there is no corrected model that was given all flipped labels, so recovery" in notes


def test_recovery_is_left_out_if_no_reference_was_given_all_wrong_labels(tmp_path: Path) -> None:
    for method, wrong in (("corrected", 4), ("relabel", 8)):
        record = make_record(f"{BASE}~{method}@seed=0", f"{BASE}@seed=0", known=0.5)
        write_unlearning(tmp_path, record, flip_predictions(24), flip_predictions(wrong))
    reasons = find_row(only_group(tmp_path), "relabel").reasons
    assert reasons["recovery"] == "corrected was given only 0.5 of the flipped labels"


def test_model_that_was_tested_on_other_images_has_no_gap_and_an_alarm(tmp_path: Path) -> None:
    write_flip_unlearning(tmp_path, "retrain", 4)
    before, after = flip_predictions(24, follows=30), flip_predictions(8)
    for parts in (before, after):
        parts["test"] = parts["test"].rows(np.arange(60))
    write_unlearning(tmp_path, make_record(f"{BASE}~scrub@seed=0", f"{BASE}@seed=0"), before, after)
    group = only_group(tmp_path)
    one = find_row(group, "scrub")
    assert not {"gap", "gap_test", "gap_mia", "tow"} & one.values.keys()
    assert "gap_retain" in one.values
    (alarm,) = (each for each in one.alarms if each.alarm_kind is AlarmKind.OTHER_SAMPLES)
    assert "(test: 60, there 80)" in alarm.text
    alarms = find_row(group, "retrain").alarms
    assert all(each.alarm_kind is not AlarmKind.OTHER_SAMPLES for each in alarms)


@pytest.mark.parametrize(("epochs", "named"), [(6, []), (1, [OTHER_RECIPE])])
def test_retrained_model_of_another_recipe_is_named(
    tmp_path: Path, epochs: int, named: list[str]
) -> None:
    folder = write_flip_unlearning(tmp_path, "retrain", 4)
    recipe: dict[str, Json] = {"num_epochs": 6, "lr": 0.1, "seed": 0}
    own: dict[str, Json] = {**recipe, "unlearn_epochs": epochs, "unlearn_lr": None, "seed": 9}
    base = tmp_path / paths.model_folder("model", with_seed(BASE, 0))
    base.mkdir(exist_ok=True)
    write_json(paths.provenance(folder), {"settings": own})
    write_json(paths.provenance(base), {"settings": recipe})
    notes = [note for note in only_group(tmp_path).notes if "other settings" in note]
    assert [note.partition(", which")[0] for note in notes] == named


def test_frames_of_videos_are_not_sources(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "flips"
    write_video_sources(tmp_path, ["part"])
    names = tuple(f"pre:part/v{frame % 20}/{frame}" for frame in range(80))
    parts = flip_predictions(8)
    parts["test"] = replace(parts["test"], ids=names)
    record = make_record(with_seed(f"{BASE}~scrub", 0), with_seed(BASE, 0), seed=0)
    folder = write_unlearning(run, record, parts, parts)
    assert any("10 real sources (40 images)" in note for note in only_group(run).notes)
    write_json(paths.provenance(folder), {"settings": {"data_root": "."}})
    (videos,) = [note for note in only_group(run).notes if "sources" in note]
    assert videos.endswith("1 real source (over its 10 videos), 1 fake source (over its 10 videos)")


def test_model_of_other_weights_of_its_base_is_not_compared(tmp_path: Path) -> None:
    for method, wrong, start in (("retrain", 4, "a"), ("scrub", 8, "a"), ("ng", 8, "b")):
        write_json(
            paths.provenance(write_flip_unlearning(tmp_path, method, wrong)),
            {"start_sha256": start},
        )
    group = only_group(tmp_path)
    other, same = find_row(group, "ng"), find_row(group, "scrub")
    assert "gap" in same.values
    assert not {"gap", "tow", "recovery"} & other.values.keys()
    assert other.reasons["gap"] == f"it was unlearned from other weights of {BASE}@seed=0"
    assert [each.alarm_kind for each in other.alarms] == [AlarmKind.OTHER_BASE]
    assert all(each.alarm_kind is not AlarmKind.OTHER_BASE for each in same.alarms)
