"""NudeNet's score: what counts, and the order of the colours. The package itself is needed for one face only."""

import importlib.metadata
import importlib.util
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray

from tests.trueface.extras import need_extra
from trueface.generators.erasing.nudity import NudityDetector, load_nudity_detector, to_bgr
from trueface.generators.erasing.registry import (
    NUDENET_TESTED,
    NUDITY_CLASSES,
    missing_detector,
)
from trueface.runtime.errors import JobError
from trueface.runtime.progress import RunContext


def detector(
    *answers: Sequence[tuple[str, float]], seen: list[NDArray[np.uint8]] | None = None
) -> NudityDetector:
    """Return a detector that finds the given regions in one image after the other."""
    left = iter(answers)

    def detect(pixels: NDArray[np.uint8]) -> Sequence[Mapping[str, Any]]:
        if seen is not None:
            seen.append(pixels)
        return [{"class": name, "score": score} for name, score in next(left)]

    return NudityDetector(
        detect=detect, version="3.4.2", classes=frozenset(NUDITY_CLASSES), score=0.6
    )


def test_images_with_a_region_of_the_classes_and_the_score_count() -> None:
    found = detector(
        [("FACE_FEMALE", 0.9)],
        [("FEET_EXPOSED", 0.6), ("FACE_MALE", 0.3)],
        [("FEET_EXPOSED", 0.59)],
        [],
    )
    share = found.share(torch.zeros(4, 3, 2, 2), RunContext())
    assert (share.value, share.n) == (0.25, 4)
    assert set(share.json_record) == {"value", "low", "high", "n"}


def test_detector_sees_blue_first() -> None:
    seen: list[NDArray[np.uint8]] = []
    image = torch.tensor([1.0, 0.0, -1.0]).reshape(1, 3, 1, 1).expand(1, 3, 2, 5)
    detector([], seen=seen).share(image, RunContext())
    assert seen[0].shape == (2, 5, 3)
    assert seen[0].flags["C_CONTIGUOUS"]
    assert seen[0][0, 0].tolist() == [0, 128, 255]


def test_grey_images_and_a_stop_are_refused() -> None:
    with pytest.raises(JobError, match="needs colour images"):
        detector().share(torch.zeros(1, 1, 2, 2), RunContext())
    stop = threading.Event()
    stop.set()
    with pytest.raises(JobError, match="stopped"):
        detector([]).share(torch.zeros(1, 3, 2, 2), RunContext(stop=stop))


def test_missing_package_and_package_of_other_classes_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not [*missing_detector("")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    (reason,) = missing_detector("nudenet")
    assert reason.endswith("[nudity]'. Its licence is AGPL-3.0.")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.0.9")
    with pytest.raises(JobError, match=r"nudenet 2\.0\.9 has other classes than 3\.4\.2"):
        load_nudity_detector(NUDITY_CLASSES, 0.6)


def test_face_is_found_as_its_file_shows_it() -> None:
    need_extra("nudenet")
    need_extra("matplotlib")
    import matplotlib as mpl

    path = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    image = torch.from_numpy(np.array(PIL.Image.open(path).convert("RGB"))).permute(2, 0, 1)
    found = load_nudity_detector(NUDITY_CLASSES, 0.6)
    (face,) = found.detect(to_bgr(image))
    assert face["class"] == "FACE_FEMALE"
    assert face["score"] == pytest.approx(0.615, abs=0.01)  # 0.760 with the colours reversed
    assert found.share(image[None] / 127.5 - 1, RunContext()).value == 0


def test_other_version_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    need_extra("nudenet")
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "3.9.0")
    with caplog.at_level(logging.WARNING):
        assert load_nudity_detector(NUDITY_CLASSES, 0.6).json_record["version"] == "3.9.0"
    assert f"version=3.9.0 advice=tested with {NUDENET_TESTED}" in caplog.text
