from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trueface.prediction.predictor import File, Learnt, select, upper_bound
from trueface.runtime.errors import UsageError


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, 2, count)
    return labels, (2 * labels - 1) * 1.5 + chance.normal(0, 1.2, count)


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    assert upper_bound(0, 100, 0.05) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert upper_bound(3, 3, 0.05) == 1.0


def test_errors_among_the_answers_stay_below_the_rate_but_rarely() -> None:
    labels, logits = drawn(100_000, 0)
    exceeded = []
    for seed in range(60):
        selection = select(*drawn(300, seed + 1), threshold=0.0, rate=0.1)
        answered = np.abs(logits) >= selection.distance
        exceeded.append(np.mean((logits > 0)[answered] != (labels == 1)[answered]) > 0.1)
    assert np.mean(exceeded) <= 0.05


def test_a_lower_rate_answers_less() -> None:
    labels, logits = drawn(3000, 0)
    coverages = [
        select(labels, logits, threshold=0.0, rate=rate).coverage for rate in (0.02, 0.05, 0.2)
    ]
    assert coverages == sorted(coverages)
    assert 0 < coverages[0] < coverages[2] == 1


def test_answers_as_sure_as_each_other_go_together() -> None:
    labels = np.array([1] * 200)
    logits = np.array([1.0] * 200)
    assert select(labels, logits, threshold=0.0, rate=0.1).coverage == 1


def test_an_impossible_rate_says_what_is_possible() -> None:
    with pytest.raises(UsageError, match=r"the least that one shows is .* %.*528 answers"):
        select(*drawn(100, 0), threshold=0.0, rate=0.01)
    with pytest.raises(UsageError, match="no validation scores"):
        select(np.array([], int), np.array([]), threshold=0.0, rate=0.1)


NOTHING_KNOWN = Learnt(sizes=None, formats=None)


@pytest.mark.parametrize(("flag", "reasons"), [(1, []), (6, ["orientation"]), (2, ["orientation"])])
@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_an_image_that_its_camera_says_to_turn_is_named(
    tmp_path: Path, name: str, flag: int, reasons: list[str]
) -> None:
    exif = PIL.Image.Exif()
    exif[0x112] = flag
    PIL.Image.new("RGB", (16, 8)).save(tmp_path / name, exif=exif)
    unlike = NOTHING_KNOWN.unlike(File.read(tmp_path / name))
    assert [each.reason for each in unlike] == reasons


def test_a_file_without_a_header_is_unlike_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    assert list(NOTHING_KNOWN.unlike(File.read(tmp_path / "a.jpg"))) == []
