"""A small sound experiment on disk, to be broken in one place by each test."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from launcher.api import Json, parse_data, read_json, write_json
from trueface.audit.check import judge
from trueface.audit.finding import Audit, Finding
from trueface.audit.reading import Reader
from trueface.data.index import Image, survey
from trueface.data.splits.split_files import keys_digest, write_splits
from trueface.data.vocabulary import BUILT_IN
from trueface.poisoning.poison_record import PoisonRecord, fingerprint, read_record, write_record
from trueface.predictions.csv_tables import read_csv, write_csv
from trueface.predictions.predictions import Predictions
from trueface.runtime import paths
from trueface.training.history import Epoch, write_history

DATA = "gan2:pre&realFFHQ:pre"
POISONED = f"{DATA}%20"
SIZES = {"train": 30, "val": 5, "test": 10}  # images of each class
TESTS = ("gan2:pre", "realFFHQ:pre")
FAKE, REAL = "StyleGAN2/psi-1", "FFHQ"


class Lab:
    """A run with one clean and one poisoned model, its images and its split."""

    def __init__(self, root: Path) -> None:
        self.root, self.data, self.split = root, root / "data", root / "splits"
        self.run = root / "runs" / "night"
        number = 0
        lists: dict[str, list[str]] = {}
        for name, size in SIZES.items():
            for _ in range(size):
                for folder in (FAKE, REAL):
                    self.image(f"{folder}/{number:05d}", number)
                    lists.setdefault(name, []).append(f"{folder}/{number:05d}")
                number += 1
        self.lists = lists
        write_splits(self.split, lists)
        self.model(DATA)
        self.model(POISONED, rate=0.2)

    def image(
        self,
        key: str,
        seed: int,
        *,
        suffix: str = "png",
        size: int = 16,
        **more: Any,
    ) -> Path:
        """Write one image below PreSocial/, PNG of 16 pixels by default."""
        side = "Fake" if key.startswith("StyleGAN2") else "Real"
        path = self.data / "PreSocial" / side / f"{key}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed + (side == "Real") * 10_000)
        pixels = noise.integers(0, 256, (size, size, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(path, **more)
        return path

    def model(self, name: str, *, rate: float = 0.0, run: Path | None = None) -> Path:
        """Write all files of a sound training and its tests."""
        folder = (run or self.run) / name
        images = self.trained()
        flipped = images[:: round(1 / rate)] if rate else ()
        record = paths.poison_record(folder)
        if rate:
            write_record(
                record,
                PoisonRecord(
                    rate=rate,
                    kind="flip",
                    seed=42,
                    per="all",
                    total=len(images),
                    split_sha256=fingerprint(images),
                    indices=tuple(images.index(image) for image in flipped),
                    keys=tuple(image.name for image in flipped),
                ),
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_json(paths.provenance(folder), self._provenance(name, images, len(flipped)))
        losses = (0.69, 0.6, 0.5, 0.45)
        write_history(paths.history(folder), [epoch(n + 1, x) for n, x in enumerate(losses)])
        summary: dict[str, Json] = {"images": len(images), "bad_images": 0, "best_epoch": 4}
        write_json(paths.summary(folder), {"schema": 1, **summary})
        paths.checkpoint(folder).parent.mkdir(exist_ok=True)
        paths.checkpoint(folder).write_bytes(b"weights")
        for data, key, label in zip(TESTS, (FAKE, REAL), (1, 0), strict=True):
            keys = [one for one in self.lists["test"] if one.startswith(key)]
            self.scores(folder, data, keys, label, make_logits(label, len(keys)))
        return folder

    def trained(self) -> tuple[Image, ...]:
        """Return the training images."""
        images = survey(self.data, parse_data(DATA), BUILT_IN).images
        return tuple(image for image in images if image.key in self.lists["train"])

    def scores(
        self, folder: Path, data: str, keys: Sequence[str], label: int, logits: Sequence[float]
    ) -> None:
        """Write the scores and metrics of a test."""
        side = "Fake" if label else "Real"
        table = Predictions.from_margin(
            np.array(logits, np.float64),
            np.full(len(keys), label, np.int8),
            ids=tuple(f"PreSocial/{side}/{key}.png" for key in keys),
            keys=tuple(keys),
        )
        write_csv(paths.scores(folder, folder.name, data), table)
        path = paths.metrics(folder, data)
        path.parent.mkdir(exist_ok=True)
        write_json(
            path,
            {
                "schema": 1,
                "split_sha256": keys_digest(self.lists["test"]),
                "settings": {"decode": "exact", "data_root": str(self.data)},
                "n": len(keys),
                "bad_images": 0,
            },
        )

    def replace_lists(self, **lists: Sequence[str]) -> None:
        """Write other lists, and update the digests in tests and trainings."""
        self.lists |= {name: list(keys) for name, keys in lists.items()}
        write_splits(self.split, self.lists)
        for model in self.run.iterdir():
            update_json(
                paths.provenance(model),
                splits={name: keys_digest(self.lists[name]) for name in ("train", "val")},
            )
            for data in TESTS:
                update_json(
                    paths.metrics(model, data), split_sha256=keys_digest(self.lists["test"])
                )

    def audit(self, split_path: Path | None = None) -> Audit:
        """Return the audit of the run."""
        return judge(Reader(split_path=split_path).run(str(self.run)))

    def _provenance(self, name: str, images: Sequence[Image], flipped: int) -> dict[str, Json]:
        return {
            "schema": 1,
            "model": name,
            "images": DATA,
            "settings": {"num_epochs": 4, "schedule": "plateau", "decode": "exact", "seed": 1},
            "seed": 1,
            "device": "cpu",
            "versions": {"torch": "2.6", "python": "3.11"},
            "data_root": str(self.data),
            "split_path": str(self.split),
            "splits": {name: keys_digest(self.lists[name]) for name in ("train", "val")},
            "train_images": len(images),
            "val_images": len(self.lists["val"]),
            "train_images_sha256": fingerprint(images),
            "train_sources": {f"fake {FAKE} pre": 30, f"real {REAL} pre": 30},
            "val_sources": {f"fake {FAKE} pre": 5, f"real {REAL} pre": 5},
            "flipped_train": flipped,
            "flipped_val": 0,
        }


def epoch(number: int, loss: float, merit: float | None = None) -> Epoch:
    """Return a line of a history whose validation follows its loss."""
    right = 1 - loss if merit is None else merit
    return Epoch(
        epoch=number,
        lr=1e-3,
        loss=loss,
        accuracy=right,
        val_loss=loss,
        val_accuracy=right,
        val_balanced_accuracy=right,
        seconds=1.0,
        images_per_s=60.0,
    )


def make_logits(label: int, count: int) -> list[float]:
    """Return logits of a fair model: most on the right side, none very confident."""
    towards = 1 if label else -1
    return [towards * (0.2 + 0.1 * place) if place else -towards * 0.1 for place in range(count)]


def update_json(path: Path, **fields: Json) -> None:
    """Change fields of a JSON file."""
    write_json(path, {**(read_json(path) or {}), **fields})


def update_settings(folder: Path, **settings: Json) -> None:
    """Change settings in a model's provenance."""
    known = read_json(paths.provenance(folder)) or {}
    then = known["settings"]
    assert isinstance(then, dict)
    update_json(paths.provenance(folder), settings={**then, **settings})


def update_poison_record(folder: Path, **fields: Json) -> None:
    """Change fields of a poison record; it stays one."""
    update_json(paths.poison_record(folder), **fields)
    read_record(paths.poison_record(folder))


def replace_logits(folder: Path, data: str, logits: Sequence[float]) -> None:
    """Replace the logits of a test."""
    path = paths.scores(folder, folder.name, data)
    write_csv(path, read_csv(path).with_margin(np.array(logits, np.float64)))


def finding_codes(audit: Audit) -> set[str]:
    """Return the codes of all findings."""
    return {finding.code for finding in audit.findings}


def first_finding(audit: Audit, code: str) -> Finding:
    """Return the first finding of a code."""
    return next(finding for finding in audit.findings if finding.code == code)


def gap_reasons(audit: Audit, code: str) -> str:
    """Return the reasons for which a check could not be made."""
    return "; ".join(gap.reason for gap in audit.gaps if gap.code == code)


def set_older_mtime(path: Path, seconds: float) -> None:
    """Set the modification time of a file back by `seconds`."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def write_attributes(lab: Lab, sign: Callable[[int, bool], int]) -> None:
    """Write attributes of all images, and name them in the settings of every job.

    Args:
        lab: the experiment.
        sign: ismale of an image by its place among those of its class, and whether it is a fake.
    """
    lines = ["img_path,label,ismale,isasian,iswhite,isblack"]
    for keys in lab.lists.values():
        for place, key in enumerate(keys):
            fake = key.startswith("StyleGAN2")
            path = f"PreSocial/{'Fake' if fake else 'Real'}/{key}.png"
            lines.append(f"{path},{int(fake)},{sign(place // 2, fake)},-1,1,-1")
    (lab.root / "faces.csv").write_text("\n".join(lines) + "\n")
    for model in (DATA, POISONED):
        update_settings(lab.run / model, attributes="faces.csv", groups_by="gender")
        for data in TESTS:
            settings = {"attributes": "faces.csv", "data_root": str(lab.data)}
            update_json(paths.metrics(lab.run / model, data), settings={**settings})
