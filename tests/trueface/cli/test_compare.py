import json
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.trueface.commands import Command
from tests.trueface.evaluation.tables import make_scores as scored
from tests.trueface.oldfiles import score_file
from trueface.cli import comparison_text
from trueface.evaluation.comparison import (
    ComparisonInput,
    compare,
    contrast,
    document,
    read_input,
    titles,
)
from trueface.predictions.csv_tables import write_csv
from trueface.predictions.predictions import Predictions
from trueface.runtime import paths
from trueface.runtime.errors import DataError

MODEL = "gan2:pre&real:pre"

# from the original's own notes: counts of its confusion matrices, and its printed report
CLEAN, HALF = ((9580, 492), (126, 11874)), ((1631, 8441), (1278, 10722))
LAST = ((5586, 4451), (8215, 3820))
REPORT = """\
### Performance senza poison ###
Accuracy: 97.20%
Precision: 96.02%
Recall: 98.95%
F1 Score: 97.46%
Confusion Matrix:
      Real   Fake
Real  9580    492
Fake   126  11874

### Performance After 50% poison ###
Accuracy: 55.97%
Precision: 55.95%
Recall: 89.35%
F1 Score: 68.81%
Confusion Matrix:
      Real   Fake
Real  1631   8441
Fake  1278  10722

### Net Difference (After - Before) ###
Accuracy Difference: -41.23%
Precision Difference: -40.07%
Recall Difference: -9.60%
F1 Score Difference: -28.65%"""
NARROW = """\
### Performance 50% poison ###
Accuracy: 42.62%
Precision: 46.19%
Recall: 31.74%
F1 Score: 37.62%
Confusion Matrix:
      Real  Fake
Real  5586  4451
Fake  8215  3820"""


def scores(subset: str, label: int, shift: float, *, count: int = 40, seed: int = 0) -> Predictions:
    """Return answers to images of one folder; the same images are as hard for every shift."""
    keys = [f"{subset}/{n:05d}" for n in range(count)]
    logits = np.random.default_rng(seed).normal(size=count) + shift * (label - 0.5)
    paths = [f"PreSocial/{'Fake' if label else 'Real'}/{key}.png" for key in keys]
    return scored(keys, np.full(count, label), logits, paths)


def write_run(run: Path, shift: float, *, model: str = MODEL, seed: int = 0) -> Path:
    """Write the tests of a model. A larger `shift` means a better separation of classes."""
    folder = run / model
    tests = {
        "gan2:pre": ("StyleGAN2/psi", 1),
        "gan3:pre": ("StyleGAN3", 1),
        "real:pre": ("FFHQ", 0),
    }
    for number, (data, (subset, label)) in enumerate(tests.items()):
        table = scores(subset, label, shift, seed=seed + number)
        write_csv(paths.scores(folder, model, data), table)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_run(tmp_path / "clean", 4.0)
    write_run(tmp_path / "50_poison", 0.0)
    return tmp_path


def input_of_files(*places: Path, title: str = "x") -> ComparisonInput:
    return read_input(places, title=title)


def scores_of_confusion(confusion: tuple[tuple[int, int], tuple[int, int]]) -> Predictions:
    (kept, accused), (missed, found) = confusion
    labels = [0] * (kept + accused) + [1] * (missed + found)
    logits = [-1.0] * kept + [1.0] * accused + [-1.0] * missed + [1.0] * found
    return scored([f"a/{n}" for n in range(len(labels))], labels, logits)


def input_of_scores(table: Predictions, title: str = "") -> ComparisonInput:
    return ComparisonInput(title=title, files=(), scores=table, notes=())


def test_report_equals_the_original_exactly() -> None:
    lines = [
        "\n".join(comparison_text.performance("senza poison", CLEAN)),
        "\n".join(comparison_text.performance("After 50% poison", HALF)),
        "\n".join(comparison_text.net_difference(CLEAN, HALF)),
    ]
    assert "\n\n".join(lines) == REPORT
    assert "\n".join(comparison_text.performance("50% poison", LAST)) == NARROW


@pytest.mark.filterwarnings("error")
def test_nonfinite_logit_is_rejected_before_computation(tmp_path: Path, command: Command) -> None:
    write_csv(tmp_path / "a.csv", scores_of_confusion(((9, 1), (1, 9))))
    text = (tmp_path / "a.csv").read_text().splitlines()
    text[4] = text[4].rpartition(",")[0] + ",nan"
    (tmp_path / "b.csv").write_text("\n".join(text) + "\n")
    said = command("compare", tmp_path / "a.csv", tmp_path / "b.csv", code=2)
    assert said.err.startswith(f"error: {tmp_path / 'b.csv'}:5: the logit nan is not a finite")
    assert said.err.count("\n") == 1


def test_very_large_loss_is_printed_in_scientific_notation(
    tmp_path: Path, command: Command
) -> None:
    table = scores_of_confusion(((9, 1), (1, 9)))
    write_csv(tmp_path / "a.csv", table.with_margin(1e300 * table.margin))
    said = command("compare", tmp_path / "a.csv", tmp_path / "a.csv")
    assert "1.0000e+299 (no interval: 10 of 100 reals)" in said.out


def test_command_prints_original_report_first(tmp_path: Path, command: Command) -> None:
    small = (((96, 5), (1, 119)), ((16, 84), (13, 107)))
    for name, confusion in zip("ab", small, strict=True):
        write_csv(tmp_path / f"{name}.csv", scores_of_confusion(confusion))
    words = ["compare", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--titles", "x", "y z"]
    said = command(*words)
    expected = [
        comparison_text.performance("x", small[0]),
        comparison_text.performance("y z", small[1]),
        comparison_text.net_difference(*small),
    ]
    head = "\n\n".join("\n".join(block) for block in expected)
    assert said.out.startswith(f"{head}\n\n### Paired Tests")


def test_undefined_measures_are_zero_in_original_report_and_named_in_notes() -> None:
    constant = scores_of_confusion(((5, 0), (7, 0)))
    assert "Precision: 0.00%" in comparison_text.performance("x", ((5, 0), (7, 0)))
    one = input_of_scores(constant, "all real")
    text = comparison_text.text(compare(one, one))
    assert "all real: not defined because no image was predicted fake: Precision" in text
    assert "nan" not in text


def test_models_trained_in_different_modes_are_noted(runs: Path, command: Command) -> None:
    folders = [runs / "clean" / MODEL, runs / "50_poison" / MODEL]
    summaries = [paths.summary(folder) for folder in folders]
    summaries[0].write_text('{"accelerate": "graph"}')
    assert "accelerate" not in command("compare", *folders).out  # nothing is known of the other
    summaries[1].write_text("{}")  # as an earlier version wrote it
    out = command("compare", *folders).out
    for title, mode in (("clean", "graph"), ("50_poison", "off")):
        assert f"{title}: trained with accelerate: {mode}, so its weights" in out
    summaries[1].write_text('{"accelerate": "graph"}')
    assert "accelerate" not in command("compare", *folders).out


def test_runs_are_compared_by_folder(runs: Path, command: Command) -> None:
    out = command("compare", runs / "clean", runs / "50_poison" / MODEL).out
    assert "### Performance clean ###" in out
    assert "### Performance 50_poison ###" in out
    assert "### Paired Tests on 120 Images ###" in out
    assert "McNemar: p = " in out
    assert "DeLong: p = " in out
    assert "By source, 1 real (over its images) and 2 fake: accuracy p = " in out
    assert "Sources: 1 real source (over its 40 images), 2 fake sources (80 images)." in out
    for subset in ("StyleGAN2/psi", "StyleGAN3", "FFHQ"):
        assert f"\n{subset}" in out


def test_json_comparison_contains_all_numbers(runs: Path, command: Command) -> None:
    told = command("compare", runs / "clean", runs / "50_poison", "--json").json
    assert told["schema"] == 1
    assert told["before"]["title"] == "clean"
    assert told["before"]["n"] == told["paired"]["images"] == 120
    assert told["difference"]["auc"]["value"] < -0.2
    assert told["before"]["sources"] == told["paired"]["sources"] == {"real": 1, "fake": 2}
    assert 0.9 < told["paired"]["by_source"]["auc"]["freedom"] < 2.1
    assert told["paired"]["delong"]["p"] < 1e-6
    assert told["paired"]["mcnemar"]["method"].startswith(("exact", "chi²"))
    assert set(told["subsets"]) == {"StyleGAN2/psi", "StyleGAN3", "FFHQ"}
    assert told["subsets"]["FFHQ"]["before"]["auc"] is None
    assert told["same_images"] is True


def test_constant_predictor_is_named_before_the_numbers(tmp_path: Path, command: Command) -> None:
    for name, shift in (("clean", 0.0), ("ruined", -90.0)):
        folder = tmp_path / name / MODEL / "scores"
        folder.mkdir(parents=True)
        for subset, label in (("StyleGAN3", 1), ("FFHQ", 0)):
            table = scores(subset, label, 3.0)
            said = table.with_margin(table.margin + shift)
            write_csv(folder / f"{MODEL}_vs_{subset}.csv", said)
    first = command("compare", tmp_path / "clean", tmp_path / "ruined").out.splitlines()[0]
    assert first.startswith("Warning: ruined is a constant predictor: it calls every image real")


def test_probabilities_are_named_before_a_constant_predictor(
    tmp_path: Path, command: Command
) -> None:
    folder = tmp_path / "clean" / MODEL / "scores"
    folder.mkdir(parents=True)
    for subset, label in (("StyleGAN3", 1), ("FFHQ", 0)):
        table = scores(subset, label, 3.0)
        said = table.with_margin(1 / (1 + np.exp(-table.margin)))
        write_csv(folder / f"{MODEL}_vs_{subset}.csv", said)
    out = command("compare", tmp_path / "clean", tmp_path / "clean").out
    first, second, *_ = out.splitlines()
    assert first.startswith("Warning: before: all logits are in 0 … 1, as probabilities are.")
    assert second.startswith("Warning: before is a constant predictor: it calls every image fake")
    assert out.count("as probabilities are") == 2  # once for each side


def test_equal_sources_leave_image_differences_undecided() -> None:
    labels = np.repeat(np.array([0, 1], np.int8), 60)
    keys = tuple(f"{n // 20}/{n}" for n in range(120))
    sure = np.where(labels == 1, 2.0, -2.0) + np.random.default_rng(0).normal(0, 0.1, 120)
    first, second = (np.where(np.arange(120) % 20 // 4 == wrong, -sure, sure) for wrong in (0, 1))
    sides = [
        input_of_scores(scored(keys, labels, logits), name)
        for name, logits in (("one", first), ("two", second))
    ]
    found = compare(*sides)
    assert found.paired is not None
    for value in (
        found.whole.difference["accuracy"],
        found.paired.by_source["accuracy"].difference,
    ):
        assert value is not None
        assert value.value == 0
        low, high = value.interval or (0, 0)
        assert low < -0.05
        assert high > 0.05
    assert "does not differ" not in comparison_text.text(found)
    assert (
        "accuracy changes equally in every source; over images by 0.00 (-"
        in comparison_text.text(found)
    )
    assert "accuracy does not differ; AUC does not differ" in comparison_text.text(
        compare(sides[0], sides[0])
    )


def test_paired_resampling_has_narrower_interval_than_separate_resampling(runs: Path) -> None:
    one = scores("a", 1, 1.0, count=300)
    two = scores("a", 1, 1.2, count=300)
    apart = scored(
        [f"x{key}" for key in two.keys], two.labels, two.margin, [f"x/{path}" for path in two.ids]
    )
    together, separate = (contrast(one, other).difference["accuracy"] for other in (two, apart))
    assert together is not None
    assert separate is not None
    assert together.value == separate.value
    narrow, wide = (each.interval for each in (together, separate))
    assert narrow is not None
    assert wide is not None
    assert narrow.high - narrow.low < 0.5 * (wide.high - wide.low)


def test_files_of_both_sides_can_be_given_individually(runs: Path, command: Command) -> None:
    before, after = (
        [str(paths.scores(runs / run / MODEL, MODEL, data)) for data in ("gan2:pre", "real:pre")]
        for run in ("clean", "50_poison")
    )
    told = command("compare", "--before", *before, "--after", *after, "--json").json
    assert told["before"]["files"] == before
    assert told["before"]["n"] == 80
    assert told["after"]["title"] == "50_poison"


@pytest.mark.parametrize("words", [[], ["a"], ["a", "b", "c"], ["a", "b", "--after", "c"]])
def test_number_of_sides_other_than_two_is_rejected(words: list[str], command: Command) -> None:
    assert "expected two models" in command("compare_scores", *words, code=2).err


def test_image_in_two_files_counts_once_and_conflict_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "m"
    write_csv(paths.scores(folder, "m", "a:pre"), scores("A", 1, 1.0))
    write_csv(paths.scores(folder, "m", "a:pre&b:pre"), scores("A", 1, 2.0, count=50))
    both = input_of_files(folder)
    assert len(both.scores) == 50
    assert both.notes == (
        "40 images have different logits in two score files, and the first file counts",
    )


@pytest.mark.parametrize("probabilities", [True, False])
def test_probabilities_in_place_of_logits_are_reported(
    tmp_path: Path, *, probabilities: bool
) -> None:
    folder = tmp_path / "run" / "m"
    values = 1 / (1 + np.exp(-np.linspace(-3, 3, 50)))
    logits = list(values if probabilities else 2 * values)
    write_csv(
        paths.scores(folder, "m", "a:pre"), scored([f"a/{n}" for n in range(50)], [1] * 50, logits)
    )
    notes = input_of_files(folder).notes
    assert any("all logits are in 0 … 1" in note for note in notes) is probabilities


def test_run_with_several_models_requires_a_choice(runs: Path) -> None:
    write_run(runs / "clean", 1.0, model="other")
    with pytest.raises(DataError, match=r"2 models .* Name one of them: .*gan2.*other"):
        input_of_files(runs / "clean")


@pytest.mark.parametrize(
    ("place", "said"), [("none", "none does not exist"), ("empty", "no scores in")]
)
def test_folder_without_scores_is_named(tmp_path: Path, place: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=said):
        input_of_files(tmp_path / place)


def test_images_scored_by_one_model_only_are_counted_and_excluded_from_paired_tests(
    runs: Path,
) -> None:
    paths.scores(runs / "50_poison" / MODEL, MODEL, "gan3:pre").unlink()
    found = compare(input_of_files(runs / "clean"), input_of_files(runs / "50_poison"))
    assert found.paired is not None
    assert (found.paired.pairs.only_first, found.paired.pairs.only_second) == (40, 0)
    assert not found.whole.same_images
    assert found.subsets["StyleGAN3"].after is None
    assert found.subsets["StyleGAN3"].difference["accuracy"] is None
    assert found.subsets["FFHQ"].same_images
    text = comparison_text.text(found)
    assert "left out: 40 only before, 0 only after" in text
    assert json.dumps(document(found))


def test_flipped_labels_on_one_side_prevent_pairing_with_a_reason(runs: Path) -> None:
    one = scores("A", 1, 1.0)
    found = compare(
        input_of_scores(one), input_of_scores(replace(one, labels=np.zeros(40, np.int8)))
    )
    assert found.paired is None
    assert found.unpaired is not None
    assert "tested on flipped labels" in comparison_text.text(found)


def old_run(folder: Path, shift: float) -> Path:
    within = folder / MODEL / "scores"
    within.mkdir(parents=True)
    for data, label in (("gan2:pre", 1), ("real:pre", 0)):
        table = scores(data, label, shift)
        path = within / f"{MODEL}_vs_{data}.pkl"
        score_file(path, table.labels.tolist(), table.margin.tolist())
    score_file(within / "None_vs_gan2:pre.pkl", [1, 1], [0.5, 0.5])
    return folder


def test_old_runs_are_compared_without_paired_tests_with_a_reason(
    tmp_path: Path, command: Command
) -> None:
    one, two = old_run(tmp_path / "clean", 4.0), old_run(tmp_path / "20_poison", 1.0)
    out = command("compare", one, two).out
    assert "### Performance 20_poison ###" in out
    assert (
        "None: old score files do not name their images, and the original system shuffled them"
        in out
    )
    assert "\ngan2:pre      40" in out
    assert input_of_files(one).scores.keys[:2] == ("gan2:pre/#0", "gan2:pre/#1")
    assert len(input_of_files(one).scores) == 80  # its training's scores are left out


def test_old_runs_with_equal_order_are_paired_on_request(tmp_path: Path) -> None:
    one, two = old_run(tmp_path / "clean", 4.0), old_run(tmp_path / "20_poison", 1.0)
    found = compare(input_of_files(one), input_of_files(two), same_order=True)
    assert found.paired is not None
    assert len(found.paired.pairs) == 80
    assert found.paired.pairs.doubt is None
    assert found.whole.same_images


def test_new_scores_take_precedence_over_old_ones_in_a_folder(tmp_path: Path) -> None:
    folder = old_run(tmp_path / "run", 1.0) / MODEL
    write_csv(paths.scores(folder, MODEL, "gan2:pre"), scores("StyleGAN2", 1, 1.0))
    assert input_of_files(folder).scores.names_images


def test_sides_are_named_by_their_difference(tmp_path: Path) -> None:
    for run, model in (("a", "m"), ("b", "m"), ("b", "n")):
        write_run(tmp_path / run, 1.0, model=model)
    am, bm, bn = (tmp_path / run / model for run, model in (("a", "m"), ("b", "m"), ("b", "n")))
    file = paths.scores(am, "m", "gan2:pre"), paths.scores(am, "m", "real:pre")
    assert titles([am], [bm]) == ("a", "b")
    assert titles([bm], [bn]) == ("m", "n")
    assert titles([am], [bn]) == ("a/m", "b/n")
    assert titles(file[:1], file[1:]) == ("m_vs_gan2:pre", "m_vs_real:pre")
    assert titles([am], [am]) == ("before", "after")
    with chdir(am):
        assert titles([Path()], [Path("../../b/m")]) == ("a", "b")
