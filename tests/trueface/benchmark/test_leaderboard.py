"""The leaderboard of a made-up run, against sums over pairs of images written out here."""

import re
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from launcher.api import Words
from trueface.benchmark.cells import Cell, CellScores, Index, Manifest, ModelFacts
from trueface.benchmark.conditions import Setting
from trueface.benchmark.leaderboard import holm, leaderboard
from trueface.benchmark.results import CellResult, RankMark, RunResults, evaluate_unattacked
from trueface.cli.benchmark import document, study_tables, text
from trueface.cli.text_tables import latex_tables
from trueface.data.image_headers import Shortcut
from trueface.evaluation.arrays import Floats
from trueface.evaluation.intervals.resampling import resamples
from trueface.evaluation.over_seeds import MissingModels
from trueface.predictions.predictions import Predictions
from trueface.report.benchmark_page import ranks as ranks_of_models
from trueface.report.benchmark_page import selected_table

TEST, COUNT, SEEDS = "gan1:pre&realFFHQ:pre", 30, (1, 2, 3)
LABELS = np.array([0] * COUNT + [1] * COUNT, np.int8)
KEYS = tuple(f"s{at % 3}/{at}" for at in range(2 * COUNT))
FACTS = ModelFacts(
    checkpoint_sha256="0", threshold=0.0, temperature=1.0, in_logits=False, source="validation",
    parameters=1, ms_image=1.0, device="cpu", threads=1,
)  # fmt: skip
STRENGTHS = {"good": 1.6, "fair": 1.0, "poor": 0.9}
CONDITIONS = ("none", "jpeg50")


def logits(model: str, corrupt: str, seed: int) -> Floats:
    """Return scores with a common part per image for all models and seeds."""
    shared = np.random.default_rng(0).normal(size=2 * COUNT)
    own = np.random.default_rng([STRENGTHS[model] > 1, len(model), len(corrupt), seed])
    strength = STRENGTHS[model] * (0.8 if corrupt == "jpeg50" else 1.0)
    return strength * LABELS + shared + 0.5 * own.normal(size=2 * COUNT)


def make_result(model: str, corrupt: str, seed: int) -> CellResult:
    cell = Cell(
        corrupt=corrupt, attack="none", access="none", setting=Setting.WHITE, why="", file="a.npz"
    )
    name = f"gan1:pre@seed={seed},model={model}"
    index = Index(
        model=name, test=TEST, architecture=model, train="gan1:pre", seed=seed, manifest="m",
        checkpoint_sha256="0", code="", root="/", words=Words(), settings={}, cells=(cell,),
    )  # fmt: skip
    scores = CellScores(
        predictions=Predictions.from_margin(logits(model, corrupt, seed), LABELS, ids=KEYS)
    )
    measured = evaluate_unattacked(scores, FACTS, KEYS, ["a"] * len(KEYS))
    return CellResult(
        index=index, cell=cell, facts=FACTS, scores=scores, measured=measured, keys=KEYS
    )


def make_run(seeds: tuple[int, ...], conditions: tuple[str, ...] = CONDITIONS) -> RunResults:
    results = [
        make_result(model, corrupt, seed)
        for model in STRENGTHS for seed in seeds for corrupt in conditions
    ]  # fmt: skip
    return RunResults(name="r", manifest=Manifest(entries=()), results=tuple(results), problems=())


def pairwise_wins(values: Floats) -> Floats:
    """Return (fakes, reals): 1 where the fake has the higher score."""
    fakes, reals = values[LABELS == 1], values[LABELS == 0]
    won: Floats = (fakes[:, None] > reals) + 0.5 * (fakes[:, None] == reals)
    return won


def auc_per_resample(model: str, corrupt: str, seed: int) -> Floats:
    """Return the AUC under each resample, as a weighted sum over pairs of images."""
    weights = resamples(KEYS, LABELS, 0).astype(float)
    fakes, reals = weights[:, LABELS == 1], weights[:, LABELS == 0]
    won = pairwise_wins(logits(model, corrupt, seed))
    areas: Floats = np.einsum("rf,fn,rn->r", fakes, won, reals) / COUNT**2
    return areas


def delong_p(first: Floats, second: Floats) -> float:
    """Return DeLong's p by its structural components."""
    tables = [pairwise_wins(first), pairwise_wins(second)]
    by_fake = np.cov(np.stack([table.mean(1) for table in tables])) / COUNT
    by_real = np.cov(np.stack([table.mean(0) for table in tables])) / COUNT
    whole = by_fake + by_real
    gap = tables[0].mean() - tables[1].mean()
    return float(2 * norm.sf(abs(gap) / np.sqrt(whole[0, 0] + whole[1, 1] - 2 * whole[0, 1])))


def test_means_ranks_and_differences_of_one_seed_equal_a_manual_computation() -> None:
    board = leaderboard(make_run((1,)))
    spreads = {
        name: np.stack([auc_per_resample(name, each, 1) for each in CONDITIONS])
        for name in STRENGTHS
    }
    points = {
        name: [pairwise_wins(logits(name, each, 1)).mean() for each in CONDITIONS]
        for name in STRENGTHS
    }
    ranks = rankdata(-np.stack([*spreads.values()]), axis=0).mean(1)
    best = (ranks == ranks.min(0)) / (ranks == ranks.min(0)).sum(0)
    shares = dict(zip(STRENGTHS, best.mean(1), strict=True))
    assert {line.architecture for line in board.lines} == set(STRENGTHS)
    for line in board.lines:
        name, column = line.architecture, line.columns[Setting.WHITE]
        assert column.mean.value == pytest.approx(np.mean(points[name]))
        ends = np.quantile(spreads[name].mean(0), [0.025, 0.975])
        assert column.mean.interval == pytest.approx(tuple(ends))
        assert column.worst.value.value == pytest.approx(min(points[name]))
        assert column.ranked is not None
        assert column.ranked.best == pytest.approx(shares[name])
    (figure,) = ranks_of_models(board)
    assert figure.title == f"Ranks, {Setting.WHITE}"
    drawn = [name.partition(":")[0] for name in figure.description.split("; ")]
    assert drawn == sorted(STRENGTHS, key=lambda name: ranks.mean(1)[[*STRENGTHS].index(name)])
    pairs = board.pairs[Setting.WHITE]
    named = [(board.names[pair.first], board.names[pair.second]) for pair in pairs]
    assert named == [*combinations(STRENGTHS, 2)]
    for pair, (first, second) in zip(pairs, named, strict=True):
        gap = spreads[second].mean(0) - spreads[first].mean(0)
        assert pair.difference.value == pytest.approx(
            np.mean(points[second]) - np.mean(points[first])
        )
        assert pair.difference.interval == pytest.approx(tuple(np.quantile(gap, [0.025, 0.975])))
    # DeLong's test is of one AUC, and these differences are of means over conditions
    assert {pair.p_delong for pair in pairs} == {None}
    by_hand = [delong_p(logits(one, "none", 1), logits(two, "none", 1)) for one, two in named]
    clean = leaderboard(make_run((1,), ("none",))).pairs[Setting.WHITE]
    assert [pair.p_delong for pair in clean] == pytest.approx(holm(by_hand))
    assert [pair.p_holm for pair in pairs] == holm([pair.p for pair in pairs])
    # it takes copies of an image for independent images
    run = make_run((1,), ("none",))
    copies = [replace(result, keys=result.keys[:1] + result.keys[:-1]) for result in run.results]
    (pairs,) = leaderboard(replace(run, results=tuple(copies))).pairs.values()
    assert {pair.p_delong for pair in pairs} == {None}


def test_seeds_widen_the_interval_of_a_mean_like_manual_resampling() -> None:
    board = leaderboard(make_run(SEEDS))
    line = next(line for line in board.lines if line.architecture == "poor")
    assert line.seeds == 3
    means = np.stack([
        np.mean([auc_per_resample("poor", each, seed) for each in CONDITIONS], axis=0) for seed in SEEDS
    ])  # fmt: skip
    rng = np.random.default_rng(5)
    drawn = [
        means[rng.integers(0, 3, 3), at].mean() for at in range(means.shape[1]) for _ in range(5)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    column = line.columns[Setting.WHITE]
    assert column.mean.value == pytest.approx(
        np.mean([
            pairwise_wins(logits("poor", each, seed)).mean() for each in CONDITIONS for seed in SEEDS
        ])
    )  # fmt: skip
    assert column.mean.interval == pytest.approx((low, high), abs=0.015)


def test_confounded_cell_has_a_value_but_no_rank() -> None:
    run = make_run((1,))
    marked = RankMark("confounded", "the file format alone separates fake from real images")
    results = tuple(
        replace(each, measured=replace(each.measured, marked=marked)) for each in run.results
    )
    board = leaderboard(replace(run, results=results))
    assert all(line.columns[Setting.WHITE].mean.value > 0.5 for line in board.lines)
    assert all(line.columns[Setting.WHITE].ranked is None for line in board.lines)
    assert all("confounded on gan1:pre" in reason for reason in board.missing_ranks)
    assert not list(ranks_of_models(board))
    latex = latex_tables(study_tables(board))
    for line in board.lines:
        value = f"{line.columns[Setting.WHITE].mean.value:.3f}"
        assert re.search(
            rf"^{line.architecture} & 1 & {value}.*\$\^\\dagger\$ & ", latex, re.MULTILINE
        )
    for reason in board.missing_ranks:
        assert f"not ranked: {reason}" in latex.replace("\\", "")
    assert "confounded on gan1:pre" in text(board)
    leading, pairs = document(board)["tables"]
    for row in leading["rows"]:
        assert row["white_best"]["text"] == "not ranked"
        assert row["white_best"]["why"].startswith("confounded on gan1:pre")
    assert {row["difference"]["mark"] for row in pairs["rows"]} == {"†"}


ALONE = "it is the only model"
UNRANKED = "no other model has a rank in this tier"


@pytest.mark.parametrize(
    ("of_other", "said"),
    [
        (None, ["not scored on sdXL:pre", UNRANKED]),
        (("black", ""), ["sdXL:pre is in the tier black for this model", UNRANKED]),
        (("white", "few images"), ["few images on sdXL:pre", UNRANKED]),
    ],
)
def test_model_without_a_rank_has_a_reason(
    of_other: tuple[str, str] | None, said: list[str]
) -> None:
    """The model `good` knows both sets of images; of the second one `poor` has another cell, or none."""
    run = make_run((1,))
    good, _, _, _, poor, _ = run.results  # on clean images
    other = [replace(good, index=replace(good.index, test="sdXL:pre"))]
    if of_other is not None:
        setting, mark = of_other
        other.append(
            replace(
                poor,
                index=replace(poor.index, test="sdXL:pre"),
                cell=replace(poor.cell, setting=Setting(setting)),
                measured=replace(poor.measured, marked=RankMark(mark, "")),
            )
        )
    board = leaderboard(replace(run, results=(good, poor, *other)))
    reasons = {line.architecture: line.columns[Setting.WHITE].reason for line in board.lines}
    assert [reasons["poor"], reasons["good"]] == said
    if of_other == ("black", ""):
        assert f"poor, black: {ALONE}" in board.missing_ranks


def test_file_properties_that_predict_the_class_are_reported_once_per_dataset() -> None:
    run = make_run((1,))
    tells = Shortcut("the file format", 1.0, "30 × JPEG", "30 × PNG")
    results = tuple(
        replace(each, index=replace(each.index, shortcuts=(tells,))) for each in run.results
    )
    assert list(replace(run, results=results).confounds) == [
        f"{TEST}: the file format alone separates fake from real images in 100% of cases "
        "(real: 30 × JPEG; fake: 30 × PNG)"
    ]


def test_seeds_without_a_result_are_counted() -> None:
    lost = "gan1:pre@seed=9,model=good"
    board = leaderboard(
        make_run(SEEDS), MissingModels({lost: "failed", "gan2:pre@seed=9": "failed"})
    )
    missing = {line.architecture: (line.seeds, line.missing) for line in board.lines}
    assert missing == {"good": (3, {"failed": 1}), "fair": (3, {}), "poor": (3, {})}
    assert "3 of 4, 1 failed" in text(board)
    assert document(board)["models"][0]["missing"] == {"failed": 1}


def test_page_has_a_row_of_each_selected_detector_measured_or_published() -> None:
    run = make_run(SEEDS)
    results = tuple(
        replace(each, index=replace(each.index, architecture="capsule")) for each in run.results
    )
    board = leaderboard(replace(run, results=results))
    page = re.sub(r"<wbr>", "", str(selected_table(board)))
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in page.split("<tr>")[2:]]
    assert len(rows) == 16
    best = board.lines[0]
    mean = min(column.mean.value for column in best.columns.values())
    assert rows[0][:2] == ["Cap.Forensics", board.names[best.model]]
    assert rows[0][3].startswith(f"{mean:.3f}<small>")
    assert rows[0][4:] == ["0.966", "auc", ""]
    assert rows[2][1:] == [
        "–", "–", "–", "0.997", "auc",
        "no model mcx or mcx_hsv or mcx_ycbcr or mcx_hsv_ycbcr with an AUC in this run",
    ]  # fmt: skip
