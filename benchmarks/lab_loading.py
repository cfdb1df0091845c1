"""Images from disk into batches that a network takes: ours beside a loop like the original's.

Both read the same files with the same probabilities, in one loading process as the original's
launcher asks for on two cores, and end with normalised float32. What ours keeps in memory is switched
off, but in the rows that say so: "from memory" is what the job itself has decoded, "shared" what another
job has. From the second pass on it reads of a file no more than it needs;
"first pass" is the time before that. "As tested" is without augmentation: the centre of the image.
"""

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.table import Row
from trueface.data.index import Image
from trueface.data.loading.decoding import Scaling
from trueface.data.loading.image_set import CACHE_BYTES, ImageSet
from trueface.data.loading.loader import Loader
from trueface.data.loading.pass_order import Order
from trueface.data.loading.segment_folder import SegmentFolder
from trueface.data.loading.shared_images import SharedImages
from trueface.data.loading.transforms import TrainTransform, test_transform
from trueface.data.settings import TestSettings
from trueface.training.settings import LearningSettings

FACES = Path(__file__).parents[2] / "shared" / "data" / "faces"
BATCH, THREADS = 16, 1
FILES = 24  # files of each kind that is made here; each is read under many keys
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
TARGETS = {
    "exact": "≥ 1.5", "exact, first pass": "≥ 1.5", "scaled": "≥ 3", "exact, as tested": "≥ 1",
}  # fmt: skip
LAUNCH_LINE: dict[str, Any] = {  # the published launcher's
    "resize_prob": 0.2, "resize_scale": [0.2, 1], "resize_ratio": [0.75, 1 / 0.75],
    "jpeg_prob": 0.2, "jpeg_qual": [30, 100],
    "blur_prob": 0.2, "blur_sigma": [1e-6, 3],
    "patch_size": 96,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Files of one kind, as often as makes a round worth timing."""

    what: str
    files: tuple[Path, ...]
    images: int
    resize_size: int
    scalable: bool = True  # JPEG
    remembered: bool = False  # whether passes from memory are timed, too

    def settings(self) -> LearningSettings:
        """Return the augmentation."""
        return LearningSettings(
            data_root="", split_path="", resize_size=self.resize_size, **LAUNCH_LINE
        )

    def names(self) -> list[Path]:
        """Return a file for each image of a pass."""
        return [self.files[number % len(self.files)] for number in range(self.images)]


class Reference(Dataset[Tensor]):
    """How the original loads: Pillow, then torchvision's transforms on the whole image."""

    def __init__(self, sample: Sample, *, tested: bool = False) -> None:
        self._files, chosen = sample.names(), sample.settings()
        as_float = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, DEVIATION)]
        if tested:
            self._transform = v2.Compose([
                v2.ToImage(), v2.CenterCrop(chosen.resize_size), *as_float,
            ])  # fmt: skip
            return
        self._transform = v2.Compose([
            v2.ToImage(),
            v2.RandomApply(
                [
                    v2.RandomResizedCrop(
                        chosen.resize_size, scale=chosen.resize_scale, ratio=chosen.resize_ratio
                    )
                ],
                p=chosen.resize_prob,
            ),
            v2.CenterCrop(chosen.resize_size),
            v2.RandomApply([v2.GaussianBlur(15, chosen.blur_sigma)], p=chosen.blur_prob),
            v2.RandomApply([v2.JPEG(chosen.jpeg_qual)], p=chosen.jpeg_prob),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomCrop(chosen.patch_size, pad_if_needed=True),
            *as_float,
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Tensor:
        with PIL.Image.open(self._files[index]) as file:
            pixels: Tensor = self._transform(file.convert("RGB"))
        return pixels


def reference(sample: Sample, turn: int, *, tested: bool = False) -> int:
    """Go through a sample as the original does; return the number of images."""
    torch.manual_seed(turn)
    loader = DataLoader(
        Reference(sample, tested=tested), batch_size=BATCH, shuffle=not tested, num_workers=THREADS
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's JPEG coder is deprecated
        return sum(len(pixels) for pixels in loader)


def our_set(
    sample: Sample,
    decode: str,
    cache_bytes: int = 0,
    shared: SharedImages | None = None,
    *,
    tested: bool = False,
) -> ImageSet:
    """Return a sample as ours takes it, each image under a key of its own."""
    settings = sample.settings()
    images = [
        Image(file=str(file), key=f"FFHQ/{number}", label=0, method="FFHQ", modifier="pre")
        for number, file in enumerate(sample.names())
    ]
    tests = TestSettings(data_root="", split_path="", resize_size=sample.resize_size)
    return ImageSet(
        images,
        test_transform(tests)
        if tested
        else TrainTransform(settings=settings, seed=settings.augment_seed),
        scaling=Scaling.from_decode_setting(decode, settings.resize_size),
        cache_bytes=cache_bytes,
        shared_images=shared,
    )


def ours(image_set: ImageSet, turn: int, *, threads: int = THREADS) -> int:
    """Go through a sample as ours does, with the arithmetic that our networks begin with."""
    mean, deviation = (torch.tensor(three).view(3, 1, 1) for three in (MEAN, DEVIATION))
    count = 0
    image_set.num_threads = threads
    loader = Loader(dataset=image_set, batch_size=BATCH, order=Order(seed=1))
    for batch in loader(turn):
        levels = batch.inputs.to(torch.float32).div_(255)
        count += len(levels.sub_(mean).div_(deviation))
    return count


def loading_rows(rounds: int) -> Iterator[Row]:
    """Return the rows of this part; the faces are left out where they are not."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a loading process
    try:
        with tempfile.TemporaryDirectory() as folder:
            for sample in samples(Path(folder)):
                yield from _rows(sample, rounds, Path(folder))
    finally:
        torch.set_num_threads(threads)


def samples(folder: Path) -> Iterator[Sample]:
    """Make the files to be read, and name the faces where there are any."""
    faces = tuple(sorted(FACES.glob("PreSocial/*/*/*.jpg")))
    if faces:
        yield Sample(
            what="faces, 256 px JPEG", files=faces, images=640, resize_size=256, remembered=True
        )
    for side, images in ((256, 320), (512, 160), (1024, 96)):
        for name, options in (
            ("JPEG q75", {"format": "JPEG", "quality": 75}),
            ("JPEG q98", {"format": "JPEG", "quality": 98}),
            ("PNG", {"format": "PNG"}),
        ):
            files = tuple(folder / f"{side} {name} {number}" for number in range(FILES))
            for number, file in enumerate(files):
                picture(side, number, faces).save(file, **options)
            yield Sample(
                what=f"{side} px {name}", files=files, images=images, resize_size=min(side, 512),
                scalable=name != "PNG",
            )  # fmt: skip


def picture(side: int, number: int, faces: Sequence[Path]) -> PIL.Image.Image:
    """Return a face made larger, or gradients, with the noise of a camera."""
    rng = np.random.default_rng(number)
    if faces:
        with PIL.Image.open(faces[number * 37 % len(faces)]) as face:
            smooth = np.asarray(face.convert("RGB").resize((side, side)), dtype=np.float64)
    else:
        rows, columns = np.mgrid[0:side, 0:side] / side
        smooth = 255 * np.stack([rows, columns, np.sin(9 * rows * columns) ** 2], axis=2)
    noisy = smooth + rng.normal(0, 4, smooth.shape)
    return PIL.Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def _shared(folder: Path) -> SharedImages:
    """Return decoded images as a job that begins now has them."""
    (folder / "exact").mkdir(exist_ok=True)
    return SharedImages(SegmentFolder(top=folder, decoding="exact", limit=4 << 30))


def _rows(sample: Sample, rounds: int, folder: Path) -> Iterator[Row]:
    exact = our_set(sample, "exact")
    ways: dict[str, Callable[[int], int]] = {
        "reference": partial(reference, sample),
        "exact": partial(ours, exact),
        "exact, first pass": lambda turn: ours(our_set(sample, "exact"), turn),
        "exact, shared": lambda turn: ours(our_set(sample, "exact", shared=_shared(folder)), turn),
    }
    if sample.scalable:
        ways["scaled"] = partial(ours, our_set(sample, "scaled"))
    if sample.remembered:
        remembered = our_set(sample, "exact", CACHE_BYTES)
        ways["exact, from memory"] = partial(ours, remembered, threads=0)
    yield from _compared(sample, ways, rounds)
    tested = {
        "reference": partial(reference, sample, tested=True),
        "exact, as tested": partial(ours, our_set(sample, "exact", tested=True)),
    }
    yield from _compared(sample, tested, rounds)


def _compared(
    sample: Sample, ways: Mapping[str, Callable[[int], int]], rounds: int
) -> Iterator[Row]:
    """Return a row of each way beside the reference, which is one of them."""
    medians = {name: statistics.median(found) for name, found in _timed(ways, rounds).items()}
    beside = {"reference": medians.pop("reference")}
    for name, median in medians.items():
        yield Row(
            what=f"{sample.what}, {name}, images/s",
            ours=median,
            peers=beside,
            beside="reference",
            target=TARGETS.get(name, ""),
            as_ratio=True,
        )


def _timed(ways: Mapping[str, Callable[[int], int]], rounds: int) -> dict[str, list[float]]:
    """Return images per second of each way, in each round but one to warm up."""
    figures: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():  # in turn, so that they share the machine's moods
            since = time.perf_counter()
            count = way(turn)
            if turn > 0:
                figures[name].append(count / (time.perf_counter() - since))
    return figures
