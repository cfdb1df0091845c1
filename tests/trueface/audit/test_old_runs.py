"""Runs as the original system left them: pickles of tensors, one poison record for all runs."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trueface.audit.build import codes, the, why_not
from trueface.audit import run_facts
from trueface.audit.check import judge
from trueface.audit.finding import Audit
from trueface.audit.reading import Reader
from trueface.data.splits import write_splits

ID = "gan2:pre&real:pre"
FAKES = [f"StyleGAN2/conf-f-psi-1/{number:05d}" for number in range(60)]
REALS = [f"FFHQ/{number:05d}" for number in range(60)]
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


def _fair(count: int = 10) -> tuple[list[float], list[float]]:
    logits = [0.1 + place / 10 for place in range(count)]
    return logits, [-value for value in logits]


def test_a_sound_old_run_has_no_finding(tmp_path: Path, split: Path) -> None:
    run = _run(tmp_path, "20_poison", *_fair())
    _record(tmp_path, 0.2, [*FAKES[:8], *REALS[:8]], 80)
    assert codes(_audit(run, split)) == set()


def test_an_old_clean_run_is_not_called_poisoned(tmp_path: Path, split: Path) -> None:
    run = _run(tmp_path, "0_poison", [9.0] * 10, [-9.0] * 10)
    assert codes(_audit(run, split)) == set()


def test_the_record_of_the_validation_list_is_found(tmp_path: Path, split: Path) -> None:
    run = _run(tmp_path, "20_poison", *_fair())
    _record(tmp_path, 0.2, LISTS["val"][8:12], 20)
    audit = _audit(run, split)
    assert codes(audit) == {"poisoned-validation", "record-of-another-split"}
    assert the(audit, "record-of-another-split").evidence["not in the training list"] == 4


def test_it_is_found_without_the_training_list_that_was_not_published(
    tmp_path: Path, split: Path
) -> None:
    run = _run(tmp_path, "20_poison", *_fair())
    _record(tmp_path, 0.2, LISTS["val"][8:12], 20)
    (split / "train.json").unlink()
    audit = _audit(run, split)
    assert codes(audit) == {"poisoned-validation", "record-of-another-split"}
    evidence = the(audit, "record-of-another-split").evidence
    assert (evidence["record's total"], evidence["validation list"]) == (20, 20)


def test_logits_above_the_ceiling_show_that_no_label_was_turned(
    tmp_path: Path, split: Path
) -> None:
    run = _run(tmp_path, "20_poison", [3.0] * 10, [-3.0] * 10)
    _record(tmp_path, 0.2, [*FAKES[:8], *REALS[:8]], 80)
    found = the(_audit(run, split), "logits-above-noise-ceiling")
    assert found.severity == "fault"
    assert found.evidence["ceiling"] == 1.386


def test_a_run_called_poisoned_without_a_record_is_found(tmp_path: Path, split: Path) -> None:
    run = _run(tmp_path, "20_poison", *_fair())
    assert codes(_audit(run, split)) == {"flag-without-effect"}


def test_an_unlearned_model_that_calls_everything_real_is_found(
    tmp_path: Path, split: Path
) -> None:
    run = _run(tmp_path, "50_poison_unlearn_test", [-2.9] * 10, [-3.0] * 10)
    _record(tmp_path, 0.5, [*FAKES[:20], *REALS[:20]], 80)
    audit = _audit(run, split)
    assert codes(audit) == {"constant-predictor"}
    assert the(audit, "constant-predictor").severity == "fault"
    assert the(audit, "constant-predictor").evidence["balanced accuracy"] == 0.5


def test_an_unlearning_that_ended_in_one_answer_is_found_by_its_results(
    tmp_path: Path, split: Path
) -> None:
    folder = tmp_path / "runs" / "unlearning" / "unlearn_50_poison"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"poison_rate": 0.5, "data": ID}))
    half = [(1.0, 55.0), (1.1, 50.0), (1.2, 50.0)]
    results = {"clean_train": half, "poison_train": [*half[:1], (3.0, 0.0), (3.2, 0.0)],
               "test": half, "val": half}  # fmt: skip
    np.save(folder / "results.npy", np.array(results, dtype=object), allow_pickle=True)
    _record(tmp_path, 0.5, LISTS["val"][:10], 20)
    (split / "train.json").unlink()
    audit = _audit(folder.parent, split)
    assert {"constant-predictor", "one-class-forget-set"} <= codes(audit)
    assert the(audit, "constant-predictor").evidence["test accuracy, %"] == 50.0
    assert "not tested" in why_not(audit, "auc-below-chance")


def test_a_key_is_read_below_the_last_class_folder() -> None:
    path = "/data/Real/TrueFace_PreSocial/Fake/StyleGAN2/conf-t/00012_4711.jpg"
    assert run_facts.key_of(path) == "StyleGAN2/conf-t/00012"
    assert run_facts.key_of("PreSocial/Real/FFHQ/36615.png") == "FFHQ/36615"


def test_a_malicious_score_file_is_refused_and_told(tmp_path: Path, split: Path) -> None:
    run = _run(tmp_path, "0_poison", *_fair())
    bad = run / ID / "scores" / f"{ID}_vs_gan2:pre.pkl"
    mark = tmp_path / "ran"
    bad.write_bytes(b"cbuiltins\nexec\n(S'open(\"" + str(mark).encode() + b'","w")\'\ntR.')
    audit = _audit(run, split)
    assert "gan2:pre" in why_not(audit, "undefined-metric")
    assert not mark.exists()
