"""Values and intervals of six runs whose classes have three sources or more, as they were first stored."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launcher.api import Words, model_folder_name
from tests.trueface.unlearning.unlearned_runs import flip_predictions, make_record, write_unlearning
from trueface.benchmark.cells import Cell, CellScores, Index, Manifest, ModelFacts
from trueface.benchmark.conditions import Setting
from trueface.benchmark.leaderboard import leaderboard
from trueface.benchmark.results import (
    CellResult,
    RunResults,
    auc_change,
    evaluate_unattacked,
)
from trueface.cli.benchmark import document as benchmark_document
from trueface.cli.leaderboard import _document as unlearned_document
from trueface.evaluation import comparison
from trueface.evaluation.fairness import fairness_rows, methods
from trueface.evaluation.qualities import quality_rows
from trueface.evaluation.results import table
from trueface.predictions.csv_tables import write_csv
from trueface.predictions.predictions import Predictions
from trueface.runtime import paths
from trueface.unlearning.evaluation.leaderboard import make_unlearning_leaderboard

GOLDEN = Path(__file__).parents[2] / "data" / "estimates.json"
SIZES = {0: (40, 25, 60, 33), 1: (30, 50, 20)}  # images of each source of reals and fakes
FOLDERS = ("Real", "Fake")
FACTS = ModelFacts(
    checkpoint_sha256="0", threshold=0.3, temperature=1.5, in_logits=False, source="validation",
    parameters=1, ms_image=1.0, device="cpu", threads=1,
)  # fmt: skip


def make_table(power: float, seed: int, *, folder: str = "PreSocial") -> Predictions:
    """Return scores of several sources of each class, whose means differ."""
    logits, labels, names = [], [], []
    for label, sizes in SIZES.items():
        for source, size in enumerate(sizes):
            rng = np.random.default_rng([label, source, seed])
            shared = np.random.default_rng([label, source]).normal(size=size)
            middle = power * (2 * label - 1) + 0.4 * (source - 1)
            logits.append(middle + shared + 0.7 * rng.normal(size=size))
            labels += [label] * size
            names += [f"{folder}/{FOLDERS[label]}/s{label}{source}/{n}.png" for n in range(size)]
    keys = tuple("/".join(name.split("/")[2:]).removesuffix(".png") for name in names)
    return Predictions.from_margin(
        np.concatenate(logits), np.array(labels, np.int8), ids=tuple(names), keys=keys
    )


def write_run(
    folder: Path,
    model: str,
    scores: Predictions,
    *,
    test: str = "all:pre",
    attributes: str = "",
) -> None:
    model_folder = folder / model_folder_name(model)
    write_csv(paths.scores(model_folder, model, test), scores)
    settings = {"data_root": "data", "attributes": attributes, "corrupt": test.partition("=")[2]}
    metrics = paths.metrics(model_folder, test)
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text(json.dumps({"schema": 1, "settings": settings}))


def results_run(folder: Path) -> Any:
    shared = make_table(0.9, 2)
    for model, power in (("all:pre", 1.0), ("all:pre%20", 0.4)):
        write_run(folder, model, make_table(power, 1))
        write_run(folder, model, shared, test="all:pre@corrupt=jpeg50")
    pairs = [
        (model, test)
        for model in ("all:pre", "all:pre%20")
        for test in ("all:pre", "all:pre@corrupt=jpeg50")
    ]
    return table(folder, pairs)


def compared_run(folder: Path) -> Any:
    for model, power in (("all:pre", 1.0), ("all:pre%20", 0.4)):
        write_run(folder, model, make_table(power, 1 + len(model)))
    inputs = [
        comparison.read_input([folder / model_folder_name(model)], title=model)
        for model in ("all:pre", "all:pre%20")
    ]
    made = comparison.document(comparison.compare(*inputs))
    for side in ("before", "after"):
        side_record: Any = made[side]
        side_record.pop("files")  # a path of this machine
    return made


def benchmark_run(_: Path) -> Any:
    results = []
    for network, power in (("good", 1.2), ("poor", 0.5)):
        for seed in (1, 2, 3):
            clean = None
            for corrupt in ("none", "jpeg50"):
                scores = make_table(power * (0.8 if corrupt != "none" else 1), seed)
                cell = Cell(
                    corrupt=corrupt, attack="none", access="none", setting=Setting.WHITE, why="",
                    file="a.npz",
                )  # fmt: skip
                index = Index(
                    model=f"all:pre@seed={seed},model={network}", test="all:pre",
                    architecture=network, train="all:pre", seed=seed, manifest="m",
                    checkpoint_sha256="0", code="", root="/", words=Words(), settings={},
                    cells=(cell,),
                )  # fmt: skip
                sources = [key.partition("/")[0] for key in scores.keys]
                measured = evaluate_unattacked(
                    CellScores(predictions=scores), FACTS, scores.keys, sources
                )
                if clean is not None:
                    change = auc_change(measured, clean)
                    measured = replace(measured, values=(*measured.values, change))
                clean = clean or measured
                results.append(
                    CellResult(
                        index=index, cell=cell, facts=FACTS, scores=CellScores(predictions=scores),
                        measured=measured, keys=scores.keys,
                    )
                )  # fmt: skip
    run = RunResults(name="r", manifest=Manifest(entries=()), results=tuple(results), problems=())
    cells = [
        {
            value.name: [value.value, *(value.interval or (None, None))]
            for value in result.measured.values
        }
        for result in results[:2]
    ]
    return {"cells": cells, "board": benchmark_document(leaderboard(run))}


def write_groups(path: Path) -> None:
    lines = ["img_path,label,ismale,iswhite,isblack"]
    scores = make_table(1.0, 1)
    lines += [
        f"{name},{label},{1 if at % 2 else -1},{1 if at % 3 else -1},{-1 if at % 3 else 1}"
        for at, (name, label) in enumerate(zip(scores.ids, scores.labels.tolist(), strict=True))
    ]
    path.write_text("\n".join(lines) + "\n")


def fairness_run(folder: Path) -> Any:
    write_groups(folder.parent.parent / "faces.csv")
    models = [f"all:pre@fair={fair},seed={seed}" for fair in ("none", "dag") for seed in (1, 2, 3)]
    for at, model in enumerate(models):
        scores = make_table(1.0 if "none" in model else 0.6, at)
        write_run(folder, model, scores, attributes="faces.csv")
    rows = fairness_rows(folder, [(model, "all:pre") for model in models], ["gender"])
    return {
        "models": [row.json_record for row in rows[:2]],
        "methods": [method.json_record for method in methods(rows)],
    }


def qualities_run(folder: Path) -> Any:
    models = [f"all:pre@collab={way},seed={seed}" for way in (0, 1) for seed in (1, 2, 3)]
    pairs = []
    for at, model in enumerate(models):
        for test, part in (("all:pre", 1.0), ("all:pre@corrupt=jpeg50", 0.6)):
            write_run(folder, model, make_table(part * (1 + at / 20), at), test=test)
            pairs.append((model, test))
    rows = quality_rows(folder, pairs, reference="all:pre@collab=0")
    return [row.json_record for row in (rows[0], rows[-1])]


def unlearned_run(folder: Path) -> Any:
    for seed, wrong in ((0, 8), (1, 10)):
        base = f"gan:pre%20@seed={seed}"
        for method, off in (("retrain", 4), ("scrub", wrong)):
            record = make_record(f"gan:pre%20~{method}@seed={seed}", base, seed=seed)
            parts = []
            for count in (24, off + seed):
                made = dict(flip_predictions(count, seed=seed))
                test = made["test"]
                ids = tuple(f"pre:s{at % 2}{at % 7 % 4}/{at}" for at in range(len(test)))
                made["test"] = type(test)(
                    logits=test.logits, labels=test.labels, true_labels=test.true_labels, ids=ids
                )
                parts.append(made)
            write_unlearning(folder, record, *parts)
    return unlearned_document(make_unlearning_leaderboard(folder), with_published=False)


RUNS = {
    "results": results_run,
    "compare": compared_run,
    "benchmark": benchmark_run,
    "fairness": fairness_run,
    "qualities": qualities_run,
    "unlearned": unlearned_run,
}


def make_document(name: str, folder: Path) -> Any:
    run = folder / "runs" / "r"
    run.mkdir(parents=True)
    return json.loads(json.dumps(RUNS[name](run)))


def iter_leaves(record: object, place: str = "") -> Iterator[tuple[str, object]]:
    """Yield every number and text of a document with its place."""
    if isinstance(record, Mapping):
        for key, value in record.items():
            yield from iter_leaves(value, f"{place}.{key}")
    elif isinstance(record, list):
        for at, value in enumerate(record):
            yield from iter_leaves(value, f"{place}[{at}]")
    else:
        yield place, record


@pytest.mark.parametrize("name", RUNS)
def test_documents_of_runs_with_several_sources_are_as_first_stored(
    name: str, tmp_path: Path
) -> None:
    stored = dict(iter_leaves(json.loads(GOLDEN.read_text())[name]))
    made = dict(iter_leaves(make_document(name, tmp_path)))
    assert stored.keys() <= made.keys()
    differing = {
        place: (value, made[place])
        for place, value in stored.items()
        if made[place] != (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)
    }
    assert not differing
