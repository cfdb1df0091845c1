"""Folder layouts of data sets with tiny images, because an import reads only names and headers."""

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

Files = Callable[[Iterable[str]], Path]
PAIRS = {"train": [("000", "003"), ("001", "004"), ("002", "005")], "val": [("006", "009")],
         "test": [("007", "008")]}  # fmt: skip
METHODS = {"FF-DF": "Deepfakes", "FF-F2F": "Face2Face"}


def _image() -> bytes:
    content = io.BytesIO()
    PIL.Image.new("RGB", (1, 1)).save(content, "PNG")
    return content.getvalue()


_IMAGE = _image()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Return a function that makes a file at each path below a folder, each of its own size."""

    def make(paths: Iterable[str]) -> Path:
        top = tmp_path / "set"
        for number, path in enumerate(paths, start=1):
            file = top / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_IMAGE + b"x" * number)
        return top

    return make


def ff_frames(compression: str = "c23") -> list[str]:
    """Return the frames of FaceForensics++ in its folder layout, three per video."""
    return [
        f"FaceForensics++/{folder}/{compression}/frames/{video}/{frame:03d}.png"
        for pairs in PAIRS.values()
        for a, b in pairs
        for folder, videos in (
            ("original_sequences/youtube", (a, b)),
            *((f"manipulated_sequences/{m}", (f"{a}_{b}", f"{b}_{a}")) for m in METHODS.values()),
        )
        for video in videos
        for frame in range(3)
    ]


def ff_description(frames: Iterable[str], above: str = "") -> dict[str, Any]:
    """Return what DeepfakeBench writes of these frames, with paths below another folder."""
    of_person = {p: name for name, pairs in PAIRS.items() for pair in pairs for p in pair}
    labels = {"youtube": "FF-real"} | {method: label for label, method in METHODS.items()}
    content: dict[str, Any] = {}
    for frame in frames:
        _, _, method, compression, _, video, _ = frame.split("/")
        lists = content.setdefault(labels[method], {"train": {}, "val": {}, "test": {}})
        entry = (
            lists[of_person[video[:3]]]
            .setdefault(compression, {})
            .setdefault(video, {"label": labels[method], "frames": []})
        )
        entry["frames"].append(f"{above}{frame}")
    return {"FaceForensics++": content}


@pytest.fixture
def faceforensics(files: Files) -> Path:
    """A small FaceForensics++ in DeepfakeBench's layout, of two compressions."""
    frames = [*ff_frames(), *ff_frames("c40")]
    top = files(frames)
    described = top / "preprocessing" / "dataset_json" / "FaceForensics++.json"
    described.parent.mkdir(parents=True)
    # written under Windows, as some of the published files are
    text = json.dumps(ff_description(frames)).replace("/", "\\\\")
    described.write_text(text)
    return top
