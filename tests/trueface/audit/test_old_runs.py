"""Runs as the original system left them: pickles of tensors, one poison record for all runs."""

import json
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trueface.audit.build import finding_codes, first_finding, gap_reasons
from trueface.audit import run_folders
from trueface.audit.check import judge
from trueface.audit.finding import Audit
from trueface.audit.reading import Reader
from trueface.data.splits.split_files import write_splits

ID = "gan2:pre&real:pre"
FAKES = [f"StyleGAN2/conf-f-psi-1/{number:05d}" for number in range(60)]
REALS = [f"FFHQ/{number:05d}" for number in range(60)]
Series = Sequence[tuple[float, float]]
SOUND: Series = [(0.6, 80.0), (0.5, 85.0), (0.4, 90.0)]
UNLEARNING = {
    "unlearned-the-truth", "undefined-unlearning-loss", "unlearned-model-is-the-old-one",
}  # fmt: skip
LISTS = {name: FAKES[a:b] + REALS[a:b] for name, a, b in
         (("train", 0, 40), ("val", 40, 50), ("test", 50, 60))}  # fmt: skip


@pytest.fixture
def split(tmp_path: Path) -> Path:
    write_splits(tmp_path / "splits", LISTS)
    return tmp_path / "splits"


def _run(root: Path, name: str, fakes: Sequence[float], reals: Sequence[float]) -> Path:
    scores = root / "runs" / name / ID / "scores"
    scores.mkdir(parents=True)
    for data, label, logits in (("gan2:pre", 1.0, fakes), ("real:pre", 0.0, reals)):
        column = torch.tensor(logits, dtype=torch.float32).reshape(-1, 1)
        content = {
            "y_true": torch.full_like(column, label),
            "y_pred": (column > 0).long(),
            "score_array": column,
        }
        (scores / f"{ID}_vs_{data}.pkl").write_bytes(pickle.dumps(content))
    return root / "runs" / name


def _record(root: Path, rate: float, keys: Sequence[str], total: int) -> None:
    folder = root / "runs" / "poison_info"
    folder.mkdir(parents=True, exist_ok=True)
    samples = [
        (f"/media/NAS/Real/PreSocial/{'Real' if key[0] == 'F' else 'Fake'}/{key}.png",
         1.0 if key[0] == "F" else 0.0)
        for key in keys
    ]  # fmt: skip
    content = {
        "poisoned_indices": list(range(len(keys))),
        "poison_rate": rate,
        "total_samples": total,
        "poisoned_samples": samples,
    }
    (folder / f"poison_{rate:.2f}.pkl").write_bytes(pickle.dumps(content))


def _audit(run: Path, split: Path) -> Audit:
    return judge(Reader(split_path=split).run(str(run)))


FAIR = [0.1 + place / 10 for place in range(10)]
TRAINED, VALIDATED = [*FAKES[:8], *REALS[:8]], LISTS["val"][8:12]


@pytest.mark.parametrize(
    ("name", "fakes", "reals", "record", "published", "found"),
    [
        ("20_poison", FAIR, None, (0.2, TRAINED, 80), True, {}),
        ("0_poison", [9.0] * 10, None, None, True, {}),
        (
            "20_poison", FAIR, None, (0.2, VALIDATED, 20), True,
            {"poisoned-validation": {}, "record-of-another-split": {"not in the training list": 4}},
        ),
        (
            "20_poison", FAIR, None, (0.2, VALIDATED, 20), False,
            {
                "poisoned-validation": {},
                "record-of-another-split": {"record's total": 20, "validation list": 20},
            },
        ),
        (
            "20_poison", [3.0] * 10, None, (0.2, TRAINED, 80), True,
            {"logits-above-noise-ceiling": {"severity": "fault", "ceiling": 1.386}},
        ),
        ("20_poison", FAIR, None, None, True, {"flag-without-effect": {}}),
        (
            "50_poison_unlearn_test", [-2.9] * 10, [-3.0] * 10,
            (0.5, [*FAKES[:20], *REALS[:20]], 80), True,
            {"constant-predictor": {"severity": "fault", "balanced accuracy": 0.5}},
        ),
    ],
    ids=[
        "sound", "clean", "the record of the validation list",
        "the same, of a training list that was not published",
        "logits above the ceiling: no label was turned", "called poisoned without a record",
        "an unlearned model that calls everything real",
    ],
)  # fmt: skip
def test_old_run_is_audited_from_its_pickles(
    tmp_path: Path, split: Path, name: str, fakes: list[float], reals: list[float] | None,
    record: tuple[float, list[str], int] | None, published: bool,
    found: dict[str, dict[str, object]],
) -> None:  # fmt: skip
    run = _run(tmp_path, name, fakes, reals or [-value for value in fakes])
    if record is not None:
        _record(tmp_path, *record)
    if not published:
        (split / "train.json").unlink()
    audit = _audit(run, split)
    assert finding_codes(audit) == set(found)
    for code, told in found.items():
        first = first_finding(audit, code)
        assert told.items() <= {"severity": first.severity, **first.evidence}.items()


def unlearned(
    root: Path, split: Path, *, sure: float | None = 1.0, rate: float = 0.2, **series: Series
) -> Audit:
    """Audit an unlearning of the original system; its model before is `sure` of its answers."""
    if sure is not None:
        _run(root, "20_poison", [sure] * 10, [-sure] * 10)
        _record(root, rate, TRAINED, 80)
    folder = root / "runs" / "unlearning" / f"unlearn_{rate:.0%}_poison".replace("%", "")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps({"poison_rate": rate, "data": ID, "offset": 0.1})
    )
    results = {
        name: series.get(name, SOUND) for name in ("clean_train", "poison_train", "test", "val")
    }
    np.save(folder / "results.npy", np.array(results, dtype=object), allow_pickle=True)
    return _audit(folder.parent, split)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, None),
        ({"poison_train": [(0.1, 99.48), (2.0, 40.0), (3.0, 0.0)]}, "unlearned-the-truth"),
        ({"sure": 4.0}, "undefined-unlearning-loss"),
        ({"val": [(0.6, 80.0), (math.nan, 80.0)]}, "undefined-unlearning-loss"),
        (
            {"clean_train": [(0.1, 97.0), (0.2, 95.0), (0.3, 96.9)]},
            "unlearned-model-is-the-old-one",
        ),
    ],
    ids=[
        "sound", "pushed away from the true labels", "sure before", "a loss that is none",
        "the model before as the best",
    ],
)  # fmt: skip
def test_unlearning_of_the_original_system_is_audited_from_its_results(
    tmp_path: Path, split: Path, given: dict[str, Any], found: str | None
) -> None:
    audit = unlearned(tmp_path, split, **given)
    assert finding_codes(audit) & UNLEARNING == ({found} if found else set())
    if found is None:
        assert not UNLEARNING & audit.checks_without_result
    if found == "unlearned-model-is-the-old-one":
        assert "epoch 0" in first_finding(audit, found).sentence


def test_unlearning_that_collapsed_to_one_class_is_found_in_its_results(
    tmp_path: Path, split: Path
) -> None:
    half = [(1.0, 55.0), (1.1, 50.0), (1.2, 50.0)]
    _record(tmp_path, 0.5, LISTS["val"][:10], 20)
    (split / "train.json").unlink()
    audit = unlearned(
        tmp_path, split, sure=None, rate=0.5, clean_train=half, test=half, val=half,
        poison_train=[*half[:1], (3.0, 0.0), (3.2, 0.0)],
    )  # fmt: skip
    assert {"constant-predictor", "one-class-forget-set"} <= finding_codes(audit)
    assert first_finding(audit, "constant-predictor").evidence["test accuracy, %"] == 50.0
    assert "no test" in gap_reasons(audit, "auc-below-chance")


def test_accidental_test_of_the_old_weights_is_found(tmp_path: Path, split: Path) -> None:
    _run(tmp_path, "20_poison", FAIR, [-one for one in FAIR])
    run = _run(tmp_path, "20_poison_unlearn_test", FAIR[::-1], [-one for one in FAIR])
    _record(tmp_path, 0.2, TRAINED, 80)
    assert "unlearned-model-is-the-old-one" in finding_codes(_audit(run, split))


def test_key_starts_below_the_last_class_folder() -> None:
    path = "/data/Real/TrueFace_PreSocial/Fake/StyleGAN2/conf-t/00012_4711.jpg"
    assert run_folders.key_of(path) == "StyleGAN2/conf-t/00012"
    assert run_folders.key_of("PreSocial/Real/FFHQ/36615.png") == "FFHQ/36615"


def test_malicious_score_file_is_rejected_and_reported(tmp_path: Path, split: Path) -> None:
    run = _run(tmp_path, "0_poison", FAIR, FAIR)
    bad = run / ID / "scores" / f"{ID}_vs_gan2:pre.pkl"
    mark = tmp_path / "ran"
    bad.write_bytes(b"cbuiltins\nexec\n(S'open(\"" + str(mark).encode() + b'","w")\'\ntR.')
    audit = _audit(run, split)
    assert "gan2:pre" in gap_reasons(audit, "undefined-metric")
    assert not mark.exists()
