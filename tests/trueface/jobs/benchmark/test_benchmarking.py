"""The job of a benchmark on a tiny image tree: cells, interruptions, settings, and rows measured again."""

import io
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from launcher.api import Job, JobError
from launcher.queue.store.queue import Store
from tests.trueface.cli.test_missing_seeds import model_job, queue
from tests.trueface.commands import Command
from tests.trueface.jobs.build import SIDE
from tests.trueface.jobs.test_jobs import DATA, folder, job, lab, scored
from tests.trueface.jobs.test_jobs import trained as learn
from trueface.benchmark import cells
from trueface.benchmark.conditions import FOLDER, INDEX, folder_of_cells
from trueface.benchmark.leaderboard import leaderboard
from trueface.benchmark.results import RunResults, read_run
from trueface.benchmark.table import (
    COLUMNS,
    Row,
    as_csv,
    as_parquet,
    join,
    read_csv,
    rows_of,
)
from trueface.cli.benchmark import document, text
from trueface.data.loading.transforms import COPY_KINDS
from trueface.jobs import lineage
from trueface.jobs.benchmark.benchmarking import RecheckedRow, benchmark, recheck
from trueface.report.benchmark_page import benchmark_page
from trueface.runtime import paths
from trueface.runtime.errors import DataError

__all__ = ["lab", "queue"]  # the fixtures

RUN = "runs/r"
SEEDS = tuple(f"{DATA}@seed={seed}" for seed in (1, 2))
SETTINGS = {
    "resize_size": SIDE, "batch_size": 8, "corrupt": ["none", "jpeg50", "noise4+blur1"],
    "attack": ["pgd2", "transfer2"], "surrogate": SEEDS[0], "attack_images": 3,
}  # fmt: skip
# the extent of the trainings, so that the reader knows how small they were
TRAINING = rf"\d+ images of {SIDE} pixels, epochs: 2, \d+( to \d+)? s per model on cpu \(1 thread\)"
CONDITIONS = ["none", "jpeg50", "noise4+blur1", "attack-random2", "attack-pgd2", "attack-transfer2"]


def bench(lab: Path, model: str, **changed: Any) -> Job:
    settings = {**SETTINGS, **changed.pop("settings", {})}
    return job(
        lab, "benchmark", model, data=changed.pop("data", DATA), settings=settings, **changed
    )


@pytest.fixture(scope="module")
def trained(lab: Path) -> Path:
    """Two models of one recipe, and their benchmarks."""
    for seed, model in enumerate(SEEDS, start=1):
        learn(lab, model, seed=seed, num_epochs=2)
    for model in SEEDS:
        assert dict(benchmark(bench(lab, model))) == {
            "cells": 6, "scored": 6 - (model == SEEDS[0]), "not_run": int(model == SEEDS[0]),
        }  # fmt: skip
    return lab


@pytest.fixture(scope="module")
def run(trained: Path) -> RunResults:
    return read_run(trained / RUN)


def table(lab: Path) -> list[Row]:
    """Return the rows of the run without what no two computations have in common."""
    return [replace(row, ms_image=0.0) for row in rows_of(read_run(lab / RUN))]


def test_each_condition_is_a_cell_with_setting_and_access(run: RunResults) -> None:
    mine = [result for result in run.results if result.index.model == SEEDS[1]]
    assert [result.cell.condition.name for result in mine] == CONDITIONS
    assert [result.cell.setting for result in mine] == [
        "white", "grey", "black", "white", "white", "white",
    ]  # fmt: skip
    assert [result.cell.access for result in mine[3:]] == ["random", "full", "transfer"]
    assert mine[2].cell.why == (
        "corruption noise4 is not in training; corruption blur1 is not in training"
    )
    assert mine[1].scores is not None
    assert (
        mine[1].scores.predictions.ids == mine[0].scores.predictions.ids
        if mine[0].scores
        else False
    )
    # four images of a class are too few for an interval, and for a rank
    assert {result.measured.marked.mark for result in mine[:3]} == {"few images"}


def test_scores_equal_those_of_a_test_and_attacks_skip_misclassified_images(
    trained: Path, run: RunResults
) -> None:
    result: Any = scored(trained, SEEDS[1], DATA)
    clean, attacked = (
        next(result.scores for result in run.results
             if result.index.model == SEEDS[1] and result.cell.condition.name == name)
        for name in ("none", "attack-pgd2")
    )  # fmt: skip
    assert clean is not None
    assert attacked is not None
    assert (
        np.mean((clean.predictions.margin > 0) == (clean.predictions.labels == 1))
        == result["accuracy"]
    )
    assert len(attacked.predictions.labels) == 6
    assert attacked.before is not None
    wrong = (attacked.before > attacked.threshold) != (attacked.predictions.labels == 1)
    assert np.array_equal(attacked.predictions.margin[wrong], attacked.before[wrong])
    towards = np.where(attacked.predictions.labels == 1, -1, 1) * (
        attacked.predictions.margin - attacked.before
    )
    assert (towards[~wrong] > 0).all()


def test_skipped_cells_have_a_reason(run: RunResults) -> None:
    name = "gan2:pre&real:pre"
    assert list(run.not_run()) == [f"attack-transfer2: the model is the surrogate itself ({name})"]
    rows = [row for row in rows_of(run) if row.attack == "transfer2" and row.seed == 1]
    assert [(row.measure, row.value, row.mark) for row in rows] == [("cell", None, "not run")]


def test_leaderboard_counts_seeds_of_failed_jobs(
    trained: Path, queue: Store, command: Command
) -> None:
    model_job(queue, trained / RUN, f"{DATA}@seed=3", "train", fails=True)
    assert "2 of 3, 1 failed" in command("benchmark", trained / RUN).out
    (line,) = command("benchmark", trained / RUN, "--json").json["models"]
    assert line["missing"] == {"failed": 1}


def test_interrupted_benchmark_resumes_to_the_same_table(trained: Path) -> None:
    expected, model = table(trained), SEEDS[1]
    shutil.rmtree(folder(trained, model) / FOLDER)
    stop, passes = Event(), iter(range(3))

    def progress(**_: Any) -> None:
        if next(passes, None) is None:
            stop.set()

    with pytest.raises(JobError, match="stopped"):
        benchmark(bench(trained, model, progress=progress, stop=stop))
    where = folder_of_cells(folder(trained, model), DATA)
    kept = {path: path.stat().st_mtime_ns for path in where.glob("*.npz")}
    assert 0 < len(kept) < 6
    assert not (where / INDEX).exists()
    again = dict(benchmark(bench(trained, model)))
    assert again["scored"] == 6 - len(kept)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert table(trained) == expected


def test_cell_is_rescored_if_damaged_or_settings_changed(trained: Path) -> None:
    where = folder_of_cells(folder(trained, SEEDS[1]), DATA)
    (where / "jpeg50.npz").write_bytes(b"PK\3\4 cut off")
    assert dict(benchmark(bench(trained, SEEDS[1])))["scored"] == 1
    more = bench(trained, SEEDS[1], settings={"attack_images": 2, "corrupt": ["none", "webp60"]})
    assert dict(benchmark(more))["scored"] == 4  # three attacks, and the new corruption
    assert not (where / "jpeg50.npz").exists()
    (problem,) = read_run(trained / RUN).problems
    assert "different values of attack_images (3, 2)" in problem
    assert dict(benchmark(bench(trained, SEEDS[1])))["scored"] == 5


def test_damaged_cell_is_omitted_with_advice_and_other_cells_remain(trained: Path) -> None:
    where = folder_of_cells(folder(trained, SEEDS[1]), DATA)
    content = (where / "jpeg50.npz").read_bytes()
    (where / "jpeg50.npz").write_bytes(content[:-9])
    results = read_run(trained / RUN)
    (reason,) = (text for text in results.not_run() if text.startswith("jpeg50"))
    assert f"Remove {where / INDEX} and run the task file again" in reason
    assert sum(result.scores is not None for result in results.results) == 11 - 1
    index = (where / INDEX).read_bytes()
    (where / INDEX).write_text("{")
    results = read_run(trained / RUN)
    assert {result.index.model for result in results.results} == {SEEDS[0]}
    assert any(str(where / INDEX) in problem for problem in results.problems)
    assert any(problem.startswith(f"{SEEDS[1]} was not scored.") for problem in results.problems)
    # the remedy in the sentence
    (where / INDEX).write_bytes(index)
    cells.remove_index(where)
    assert dict(benchmark(bench(trained, SEEDS[1])))["scored"] == 1
    assert not read_run(trained / RUN).problems


def test_wrongly_declared_setting_is_rejected(trained: Path) -> None:
    with pytest.raises(DataError, match=r"setting: black is wrong for .*, which is white"):
        benchmark(bench(trained, SEEDS[0], settings={"setting": "black"}))


def recheck_rows(lab: Path, run: RunResults) -> Iterator[RecheckedRow]:
    return recheck(
        run, lab / RUN, count=20, seed=3, device="cpu", cpus=1,
        progress=lambda **_: None, stop=Event(),
    )  # fmt: skip


def test_rechecked_rows_agree_and_changed_image_is_detected(trained: Path, run: RunResults) -> None:
    rows = list(recheck_rows(trained, run))
    assert len(rows) == 20
    assert all(row.agrees for row in rows), [row for row in rows if not row.agrees]
    wrong = replace(rows[0], value_now=(rows[0].value_now or 0) + 0.001)
    assert not wrong.agrees
    path = trained / "data/PreSocial/Real/FFHQ/00018.png"  # an image of the test list
    content = path.read_bytes()
    path.write_bytes(content + b" ")
    try:
        with pytest.raises(DataError, match="differ from the benchmark"):
            list(recheck_rows(trained, run))
    finally:
        path.write_bytes(content)


def test_models_scored_on_different_images_share_no_table(trained: Path, tmp_path: Path) -> None:
    path = trained / "data/PreSocial/Real/FFHQ/00018.png"
    content, where = path.read_bytes(), folder(trained, SEEDS[1]) / FOLDER
    shutil.copytree(where, tmp_path / "before")
    rows = list(rows_of(read_run(trained / RUN)))
    path.write_bytes(content + b" ")
    try:
        benchmark(bench(trained, SEEDS[1]))
        with pytest.raises(DataError, match=r"the images of gan2:pre&real:pre changed"):
            read_run(trained / RUN)
    finally:
        path.write_bytes(content)
        shutil.rmtree(where)
        shutil.copytree(tmp_path / "before", where)
    other = [replace(row, manifest="0" * 12) for row in rows]
    with pytest.raises(DataError, match="measured on different images"):
        join([("mine", rows), ("theirs", other)])
    assert join([("mine", rows), ("again", rows)]) == tuple(rows)
    at = next(at for at, row in enumerate(rows) if row.measure == "auc")
    changed = [*rows[:at], replace(rows[at], value=(rows[at].value or 0) / 2), *rows[at + 1 :]]
    with pytest.raises(
        DataError, match=r"mine and theirs disagree on auc of .* with the same weights"
    ):
        join([("mine", rows), ("theirs", changed)])


def test_table_round_trips_through_its_file(run: RunResults, tmp_path: Path) -> None:
    rows = list(rows_of(run))
    text = as_csv(rows)
    path = tmp_path / "benchmark.csv"
    path.write_text(text)
    assert as_csv(read_csv(path)) == text
    path.write_text(text.replace(",white,", ",white,x,", 1))
    with pytest.raises(DataError, match=r"benchmark.csv:2: not a row"):
        read_csv(path)
    at = next(at for at, row in enumerate(rows) if row.value is not None)
    broken = [
        replace(row, value=math.nan) if place == at else row for place, row in enumerate(rows)
    ]
    path.write_text(as_csv(broken))
    with pytest.raises(DataError, match=rf"benchmark.csv:{at + 2}: not a row"):
        read_csv(path)


def test_parquet_table_has_declared_column_types(run: RunResults) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    rows = [replace(row, low=None) for row in rows_of(run)]
    table = parquet.read_table(io.BytesIO(as_parquet(rows)))
    assert table.column_names == list(COLUMNS)
    assert [str(table.schema.field(name).type) for name in ("low", "seed", "why")] == [
        "double", "int64", "string",
    ]  # fmt: skip
    assert table.num_rows == len(rows)


def test_seeds_are_merged_into_one_model_in_text_and_page(run: RunResults) -> None:
    board = leaderboard(run)
    assert [(line.model, line.seeds) for line in board.lines] == [(DATA, 2)]
    assert "transfer2: the model is the surrogate itself" in text(board)
    assert document(board)["schema"] == 1
    page = benchmark_page(board).html
    assert page == benchmark_page(board).html
    assert re.search(TRAINING, text(board))
    assert re.search(TRAINING, page)
    assert "gan2:pre&amp;real:pre" in page.replace("<wbr>", "")
    assert "<script" not in page


def test_retrained_model_is_omitted_with_a_warning(trained: Path) -> None:
    path = paths.checkpoint(folder(trained, SEEDS[1]))
    facts = cells.read_facts(folder(trained, SEEDS[1]))
    cells.write_facts(folder(trained, SEEDS[1]), replace(facts, checkpoint_sha256="other"))
    try:
        results = read_run(trained / RUN)
    finally:
        cells.write_facts(folder(trained, SEEDS[1]), facts)
    assert path.exists()
    assert {result.index.model for result in results.results} == {SEEDS[0]}
    assert "was trained again since" in results.problems[0]


def test_run_without_benchmark_raises_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"contains no benchmark\. Add a section"):
        read_run(tmp_path)


def test_corruptions_of_training_copies_are_marked_as_seen() -> None:
    assert {copy: set(kinds) for copy, kinds in lineage.CORRUPTIONS_OF_COPIES.items()} == {
        copy: {kind.name for kind in kinds} for copy, kinds in COPY_KINDS.items()
    }
