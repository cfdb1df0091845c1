"""A preview of a training: a sheet of the network's input images, epoch by epoch."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import torch
from numpy.typing import NDArray
from torch import Tensor

from launcher.api import Job, Json, parse_model, write_atomic
from trueface.data.index import Image
from trueface.data.landmarks import read_points
from trueface.data.loading.decoding import decode_array
from trueface.data.loading.image_set import ImageSet
from trueface.data.loading.processes import BadFile, ImageRequest
from trueface.data.loading.transforms import LandmarkTransform
from trueface.jobs import job_data
from trueface.jobs.job_data import model_name
from trueface.jobs.poisoning import choose_poison
from trueface.models.registry import reads_landmarks
from trueface.poisoning.loaders import poisoned_train_loader
from trueface.poisoning.poison_record import PoisonSettings, read_model_record
from trueface.runtime import paths
from trueface.runtime.errors import BadImageError, DataError
from trueface.training import image_lists
from trueface.training.settings import TrainSettings

ROWS, EPOCHS = 8, 6  # images, and how often each is shown
CLIP_EPOCHS = 2  # epochs of a clip, which has all frames side by side
GAP, LABEL = 4, 14  # pixels between pictures, and above each row
POINT_SIDE, POINT_STEP = 128, 5  # height of a picture with landmarks in pixels, of each fifth frame
POINT = (255, 220, 0)  # colour of a landmark
LEAST_WIDTH = 480  # pixels: room for a name above the smallest patches


def write_preview(path: Path, images: ImageSet) -> int:
    """Write a PNG with some images of a set, one row each, as the network sees them in the first epochs.

    Each row is headed by the name of the image and its training label, which is flipped if the image
    is poisoned. Returns the number of images shown.

    Raises:
        DataError: not one of the chosen images can be decoded.
    """
    rows = [row for row in (_row(images, at) for at in _spread_positions(len(images))) if row]
    if not rows:
        raise DataError("no image for a preview: none of the tried images can be decoded")
    buffer = io.BytesIO()
    _sheet(rows).save(buffer, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
    return len(rows)


def _spread_positions(count: int) -> Sequence[int]:
    """Return positions spread evenly over a set, so that all its parts are shown."""
    shown = min(ROWS, count)
    return [(2 * number + 1) * count // (2 * shown) for number in range(shown)]


def _row(images: ImageSet, position: int) -> tuple[str, list[Tensor]] | None:
    seen: list[Tensor] = []
    for epoch in range(CLIP_EPOCHS if images.images[position].frames else EPOCHS):
        pixels = images[ImageRequest(position, epoch, is_sound=False)]
        if isinstance(pixels, BadFile):
            return None
        if isinstance(images.transform, LandmarkTransform):
            seen = _draw_landmarks(images.images[position], pixels)
            break  # the same in each epoch
        seen += list(pixels.reshape(-1, *pixels.shape[-3:]).unbind())
    image, label = images.images[position], images.labels[position]
    label_name = "fake" if label else "real"
    wrong = "" if label == image.label else f" (is {'fake' if image.label else 'real'})"
    forged = [
        str(epoch) for epoch in range(EPOCHS) if images.pseudo_fake_indices([position], epoch)
    ]
    blended = f" (self-blended, label fake, in epochs {', '.join(forged)})" if forged else ""
    return f"{image.name}  label: {label_name}{wrong}{blended}", seen


def _draw_landmarks(clip: Image, calibrated_points: Tensor) -> list[Tensor]:
    """Return some frames of a clip with their landmarks, or the calibrated ones on black if only these are stored."""
    frames = clip.frames[::POINT_STEP]
    try:
        points = read_points(frames, is_calibrated=False)
        pictures = [PIL.Image.fromarray(decode_array(Path(frame))) for frame in frames]
    except BadImageError:
        black = PIL.Image.new("RGB", (POINT_SIDE, POINT_SIDE))
        fractions = (calibrated_points[::POINT_STEP].numpy() + 1) / 2
        return [_draw_points(black, each) for each in fractions]
    return [
        _draw_points(picture, each / picture.size)
        for picture, each in zip(pictures, points, strict=True)
    ]


def _draw_points(picture: PIL.Image.Image, points: NDArray[np.float32]) -> Tensor:
    """Return a copy of a picture (3, POINT_SIDE, w) with points (68, 2), in fractions of its sides."""
    size = (max(1, round(POINT_SIDE * picture.width / picture.height)), POINT_SIDE)
    drawn = picture.resize(size)
    draw = PIL.ImageDraw.Draw(drawn)
    for x, y in (points * size).tolist():
        draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=POINT)
    return torch.from_numpy(np.array(drawn)).permute(2, 0, 1)


def _sheet(rows: Sequence[tuple[str, list[Tensor]]]) -> PIL.Image.Image:
    pictures = max(sum(pixels.shape[-1] + GAP for pixels in seen) for _, seen in rows) + GAP
    width = max(pictures, LEAST_WIDTH)
    heights = [max(pixels.shape[-2] for pixels in seen) + LABEL + GAP for _, seen in rows]
    sheet = PIL.Image.new("RGB", (width, sum(heights) + GAP), "white")
    draw = PIL.ImageDraw.Draw(sheet)
    top = GAP
    for (title, seen), height in zip(rows, heights, strict=True):
        # the built-in font has Latin letters only
        draw.text((GAP, top), title.encode("ascii", "replace").decode(), fill="black")
        left = GAP
        for pixels in seen:
            picture = PIL.Image.fromarray(pixels.permute(1, 2, 0).to(torch.uint8).numpy())
            sheet.paste(picture, (left, top + LABEL))
            left += pixels.shape[-1] + GAP
        top += height
    return sheet


def preview(job: Job, choice: PoisonSettings | None) -> Mapping[str, Json]:
    """Write what the network would see of the training's images; train and poison nothing.

    Args:
        job: the training.
        choice: how poisoned labels are chosen, or None to read them from the record.
    """
    settings = TrainSettings.model_validate(job.settings)
    location, data = job_data.data_location(job, settings), job_data.job_data_id(job)
    lists = image_lists.load_lists(location, data, settings.clips)
    model, folder = model_name(job), job.model_folder(model_name(job))
    poison = parse_model(model).last.poison
    record = read_model_record(model, folder) if choice is None else None
    if choice is not None and poison is not None:
        record = choose_poison(job, choice, lists.train, poison)
    path = paths.preview(folder)
    loader = poisoned_train_loader(
        lists.train, settings, record, of_landmarks=reads_landmarks(settings.model)
    )
    shown = write_preview(path, loader.dataset)
    return {"images": len(lists.train), "shown": shown, "preview": str(path)}
