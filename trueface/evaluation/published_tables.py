"""The published tables, a CSV file each: detector, trained_on, tested_on, metric, value."""

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

PUBLISHED = Path(__file__).parent / "published"
OTHER_DATA = "other data"  # the mark of every such row


class PublishedRow(NamedTuple):
    """A figure as its authors give it."""

    detector: str
    trained_on: str
    tested_on: str
    metric: str  # "auc", "accuracy", "f1", "tpr", "tnr" or "balanced_accuracy"
    value: float  # 0 … 1


class PublishedTable(NamedTuple):
    """Figures from one publication."""

    name: str
    title: str
    citation: str
    note: str  # remark to read before any of them
    rows: tuple[PublishedRow, ...]


class SelectedDetector(NamedTuple):
    """A detector that SoK selected for its own tests."""

    detector: str  # as in its table
    networks: tuple[str, ...]  # networks here, any of which is this detector
    remark: str
    published: PublishedRow | None  # None: the table has no number


_SOURCES = (
    (
        "deepfakebench",
        "DeepfakeBench: AUC of frames",
        "Z. Yan, Y. Zhang, X. Yuan, S. Lyu, B. Wu, DeepfakeBench, NeurIPS 2023 Datasets and "
        "Benchmarks, arXiv 2307.01426",
        "Faces of videos. Every detector was trained on FaceForensics++ c23 with the code of the benchmark",
    ),
    (
        "truefake",
        "TrueFake: original and re-shared images",
        "S. Dell'Anna, A. Montibeller, G. Boato, TrueFake, IJCNN 2025, arXiv 2504.20658",
        "TNR of real sets and TPR of generators at the detectors' thresholds, read from pictures of the tables. "
        "The balanced accuracy is computed here from the means of both",
    ),
    (
        "sok",
        "SoK: FaceForensics++ as each detector's paper reports it",
        "B. M. Le, J. Kim, S. S. Woo, K. Moore, A. Abuadbba, S. Tariq, SoK, EuroS&P 2025, "
        "arXiv 2401.04364, table 3",
        "Collected from papers with different versions, splits and metrics of the data set. Rows without a clearly "
        "readable detector are left out",
    ),
    (
        "qad",
        "QAD: AUC over raw and compressed copies together",
        "B. M. Le, S. S. Woo, Quality-Agnostic Deepfake Detection with Intra-model Collaborative "
        "Learning, ICCV 2023, arXiv 2309.05911",
        "Faces of videos, as printed on the slides of the authors. There, the rows of F3Net and MAT on videos are "
        "identical, and the printed mean of BZNet (0.9101) is not the mean of its row (0.9269)",
    ),
)
_SHARED = ("not shared", "Facebook", "Telegram", "X")


@cache
def published_tables() -> tuple[PublishedTable, ...]:
    """Return all published tables."""
    return tuple(
        PublishedTable(
            name=name, title=title, citation=citation, note=note, rows=(*rows, *_balance_rows(rows))
        )
        for name, title, citation, note in _SOURCES
        for rows in (_read(name),)
    )


@cache
def selected_detectors() -> tuple[SelectedDetector, ...]:
    """Return the sixteen detectors of SoK that were selected."""
    (table,) = (each for each in published_tables() if each.name == "sok")
    figures = {row.detector: row for row in table.rows}
    text = (PUBLISHED / "selected.csv").read_text(encoding="utf-8")
    return tuple(
        SelectedDetector(
            detector=row["detector"],
            networks=tuple(row["networks"].split()),
            remark=row["remark"],
            published=figures.get(row["detector"]),
        )
        for row in csv.DictReader(text.splitlines())
    )


def _read(name: str) -> tuple[PublishedRow, ...]:
    text = (PUBLISHED / f"{name}.csv").read_text(encoding="utf-8")
    return tuple(
        PublishedRow(
            detector=row["detector"],
            trained_on=row["trained_on"],
            tested_on=row["tested_on"],
            metric=row["metric"],
            value=float(row["value"]),
        )
        for row in csv.DictReader(text.splitlines())
    )


def _balance_rows(rows: tuple[PublishedRow, ...]) -> list[PublishedRow]:
    """Return the mean of mean TNR and mean TPR of each detector and way of sharing."""
    derived = []
    for first in {(row.detector, row.trained_on): row for row in rows}.values():
        for shared in _SHARED:
            rates = [
                [
                    row.value
                    for row in rows
                    if row.detector == first.detector
                    and row.metric == metric
                    and row.tested_on.endswith(f", {shared}")
                ]
                for metric in ("tnr", "tpr")
            ]
            if all(rates):
                value = sum(sum(rate) / len(rate) for rate in rates) / 2
                derived.append(
                    PublishedRow(
                        detector=first.detector,
                        trained_on=first.trained_on,
                        tested_on=f"all, {shared}",
                        metric="balanced_accuracy",
                        value=round(value, 4),
                    )
                )
    return derived
