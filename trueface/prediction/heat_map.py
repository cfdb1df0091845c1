"""Heat maps: the regions of an image that a detector's answer depends on.

Occlusion works for every detector: a square of the image is blurred, and the decrease of the logit
is the contribution of the square to "fake". A map by blocks is exact if the network averages its
last feature maps and applies a linear layer: the logit is the mean of the map.

Sources: M. Zeiler and R. Fergus, arXiv 1311.2901, section 4.2 (occlusion; they use grey, whose
edges influence a detector of traces); B. Zhou et al., arXiv 1512.04150, section 2.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as image_ops

from trueface.data.augmentations.steps import Window, centre_offset
from trueface.models.detectors import Detector
from trueface.models.head import RidgeHead, capture_inputs
from trueface.prediction.predictor import Prediction, Predictor
from trueface.runtime.errors import JobError, MachineError, UsageError
from trueface.runtime.files import write_atomic

SQUARES = 8  # along each side of the network input
STEPS = 2  # steps for a square: it moves by half of its side
BLURRED = 0.5  # standard deviation of the blur, in sides of a square
EXACT = 1e-3  # relative difference of a map's mean and the logit, beyond which it is none of it

SUFFIX = ".png"  # suffix of a place that is one file

By = Literal["occlusion", "blocks"]
Score = Callable[[list[Tensor]], NDArray[np.float64]]  # logits (B,) of decoded images
FAKE, REAL = (215, 48, 39), (69, 117, 180)  # red and blue of ColorBrewer's RdYlBu
STRONGEST = 0.75  # opacity of the largest value
OUTSIDE = 0.35  # brightness of pixels outside the network input
LEAST_SIDE, MOST_SIDE = 320, 1024  # sides of the drawn image, in pixels
LEGEND = 76  # rows below it
BAR = 12  # rows of the colour bar
INK, PAPER = (30, 30, 30), (255, 255, 255)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeatMap:
    """The contribution of each position to "fake" (> 0) or "real" (< 0), in logits.

    Attributes:
        values: (h, w) over the window.
        window: of the image, in its pixels. The network gets nothing outside.
    """

    values: NDArray[np.float64]
    window: Window


def occlusion(pixels: Tensor, crop: Window, score: Score, *, batch_size: int) -> HeatMap:
    """Return the map of the decrease of the logit if a square is blurred.

    Args:
        pixels: (3, H, W) uint8, decoded.
        crop: the window of the network input.
        score: the logits of such images.
        batch_size: images per step.
    """
    window = _clip_window(crop, *pixels.shape[-2:])
    side = max(min(window.height, window.width) // SQUARES, 1)
    blurred = _blur_image(pixels, side)
    squares = [
        Window(top=window.top + down, left=window.left + right, height=side, width=side)
        for down in _square_starts(window.height, side)
        for right in _square_starts(window.width, side)
    ]
    whole = score([pixels])[0]
    losses: list[float] = []
    for start in range(0, len(squares), batch_size):
        chunk = squares[start : start + batch_size]
        losses += (whole - score([_hide_square(pixels, blurred, each) for each in chunk])).tolist()
    return HeatMap(values=_mean_of(squares, losses, window), window=window)


def class_activation(model: Detector, view: Tensor, pixels: Tensor, crop: Window) -> HeatMap:
    """Return the class activation map, whose mean over the view is the logit.

    Args:
        model: on the device.
        view: (3, h, w) uint8: the network input.
        pixels: (3, H, W): the decoded image.
        crop: the window of the view in the image.

    Raises:
        JobError: the network does not average feature maps, or its head is not linear in the mean,
        so that the map would not be exact.
    """
    if not model.has_head:
        raise _not_exact(model, "it does not end in one linear layer")
    head = model.head
    if isinstance(head, RidgeHead):
        raise _not_exact(model, "its last layer clips its inputs")
    maps, hooks = _collect_maps(model, head.in_features)
    try:
        with torch.no_grad(), capture_inputs(head) as inputs:
            logit = model(view[None].to(next(model.parameters()).device)).item()
    finally:
        for hook in hooks:
            hook.remove()
    features, weight = inputs[0][0].float(), head.weight[0].detach().float()
    for each in reversed(maps):
        if torch.allclose(
            each.mean((1, 2)), features, rtol=EXACT, atol=EXACT * float(features.abs().max())
        ):
            values = torch.einsum("c,chw->hw", weight, each) + head.bias.item()
            if abs(float(values.mean()) - logit) > EXACT * max(abs(logit), 1.0):
                break
            window = _clip_window(crop, *pixels.shape[-2:])
            rows, columns = window.top - crop.top, window.left - crop.left
            wide = _resize_map(values, crop)[rows:, columns:]
            return HeatMap(values=wide[: window.height, : window.width], window=window)
    raise _not_exact(model, "it does not average its last feature maps")


def test_crop_window(pixels: Tensor, side: int) -> Window:
    """Return the centred square that a test sees of an image (3, H, W); parts may lie outside."""
    height, width = pixels.shape[-2:]
    top, left = centre_offset(height, width, side)
    return Window(top=top, left=left, height=side, width=side)


def _not_exact(model: Detector, reason: str) -> JobError:
    return JobError(
        f"--heat-map-by blocks: not exact for network {model.spec.name!r}, because {reason}. "
        "Use --heat-map-by occlusion."
    )


def _collect_maps(
    model: Detector, channels: int
) -> tuple[list[Tensor], list[torch.utils.hooks.RemovableHandle]]:
    """Return what will hold all maps (C, h, w) of that many channels once the model has run."""
    maps: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4 or output.shape[1] != channels:
            return
        if output.shape[2] * output.shape[3] > 1:
            maps.append(output[0].float())

    return maps, [module.register_forward_hook(keep) for module in model.network.modules()]


def _clip_window(window: Window, height: int, width: int) -> Window:
    top, left = max(window.top, 0), max(window.left, 0)
    bottom, right = min(window.bottom, height), min(window.right, width)
    return Window(top=top, left=left, height=bottom - top, width=right - left)


def _square_starts(length: int, side: int) -> list[int]:
    """Return where squares begin, so that the last one ends with the window."""
    step = max(side // STEPS, 1)
    return sorted({*range(0, length - side, step), max(length - side, 0)})


def _blur_image(pixels: Tensor, side: int) -> Tensor:
    height, width = pixels.shape[-2:]
    sigma = max(BLURRED * side, 0.5)
    kernel = min(2 * round(2 * sigma) + 1, 2 * min(height, width) - 1)
    if kernel < 3:  # an image of one pixel
        return torch.full_like(pixels, 128)
    blurred: Tensor = image_ops.gaussian_blur(pixels.contiguous(), [kernel, kernel], [sigma, sigma])
    return blurred


def _hide_square(pixels: Tensor, blurred_pixels: Tensor, square: Window) -> Tensor:
    changed = pixels.clone()
    rows, columns = slice(square.top, square.bottom), slice(square.left, square.right)
    changed[:, rows, columns] = blurred_pixels[:, rows, columns]
    return changed


def _resize_map(values: Tensor, window: Window) -> NDArray[np.float64]:
    """Return a map (h, w) at the size of the window."""
    size = [window.height, window.width]
    wide: Tensor = image_ops.resize(values[None], size, antialias=False)
    return wide[0].detach().cpu().double().numpy()


def _mean_of(squares: list[Window], losses: list[float], window: Window) -> NDArray[np.float64]:
    total = np.zeros((window.height, window.width))
    count = np.zeros_like(total)
    for square, loss in zip(squares, losses, strict=True):
        slices = (
            slice(square.top - window.top, square.bottom - window.top),
            slice(square.left - window.left, square.right - window.left),
        )
        total[slices] += loss
        count[slices] += 1
    return total / np.maximum(count, 1)


def render_heat_map(pixels: Tensor, heat: HeatMap, *, title: str, method: str) -> bytes:
    """Return the PNG of an image (3, H, W) uint8 with its heat map.

    Args:
        pixels: decoded.
        heat: of it.
        title: what the answer is, one line.
        method: how the map was made.
    """
    strongest = float(np.abs(heat.values).max())
    image = PIL.Image.fromarray(_blend_heat(pixels, heat, strongest))
    image = _scale_image(image)
    sheet = PIL.Image.new("RGB", (image.width, image.height + LEGEND), PAPER)
    sheet.paste(image, (0, 0))
    _legend(PIL.ImageDraw.Draw(sheet), sheet.width, image.height, strongest, title, method)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def _blend_heat(
    pixels: Tensor, heat: HeatMap, strongest: float
) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    grey = pixels.double().mean(0).numpy()[..., None]  # so that colours are the map's alone
    shown = np.repeat(OUTSIDE * grey, 3, 2)
    window = heat.window
    slices = slice(window.top, window.bottom), slice(window.left, window.right)
    inside = grey[slices]
    share = np.abs(heat.values) / strongest if strongest > 0 else np.zeros_like(heat.values)
    opacity = (STRONGEST * share)[..., None]
    colour = np.where((heat.values > 0)[..., None], FAKE, REAL)
    shown[slices] = (1 - opacity) * inside + opacity * colour
    return shown.round().clip(0, 255).astype(np.uint8)


def _scale_image(image: PIL.Image.Image) -> PIL.Image.Image:
    longer = max(image.size)
    factor = min(
        max(1.0, LEAST_SIDE / image.width), max(MOST_SIDE / longer, LEAST_SIDE / image.width)
    )
    factor = min(factor, MOST_SIDE / longer) if longer > MOST_SIDE else factor
    if factor == 1:
        return image
    size = max(round(image.width * factor), 1), max(round(image.height * factor), 1)
    kind = PIL.Image.Resampling.NEAREST if factor > 1 else PIL.Image.Resampling.BOX
    return image.resize(size, kind)


def _legend(
    draw: PIL.ImageDraw.ImageDraw, width: int, top: int, strongest: float, title: str, method: str
) -> None:
    font = PIL.ImageFont.load_default(size=12)
    draw.text((8, top + 4), title, INK, font)
    bar = top + 22
    for column in range(8, width - 8):
        value = 2 * (column - 8) / max(width - 17, 1) - 1
        colour = FAKE if value > 0 else REAL
        mixed = tuple(round(255 + STRONGEST * abs(value) * (each - 255)) for each in colour)
        draw.line([(column, bar), (column, bar + BAR)], mixed)
    below = bar + BAR + 2
    draw.text((8, below), f"real {-strongest:+.3g}", INK, font)
    draw.text((width // 2, below), "0", INK, font, anchor="ma")
    draw.text((width - 8, below), f"fake {strongest:+.3g}", INK, font, anchor="ra")
    draw.text((8, below + 17), f"logit by {method}; dark: outside the input", INK, font)


@dataclass(slots=True)
class HeatMaps:
    """Writes the heat maps of answers.

    Attributes:
        output: a PNG file, or a folder.
        by: how maps are made.
        predictor: that gave the answers.
    """

    output: Path
    by: By
    predictor: Predictor
    names: set[str] = field(default_factory=set)  # names of files in the folder so far

    def write(self, answer: Prediction) -> Path:
        """Make and write the map of an answer; return its file.

        Raises:
            JobError: the network has no exact map by blocks.
            MachineError: the file cannot be written.
        """
        pixels = self.predictor.decode(answer.path)
        title = f"{answer.verdict}: {100 * answer.probability:.1f} % fake, logit {answer.logit:.3g}"
        content = render_heat_map(
            pixels, self.make_map(pixels, answer.path), title=title, method=self.by
        )
        path = self._path(answer.path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, content)
        except OSError as error:
            raise MachineError(f"cannot write {path}: {error.strerror or error}") from error
        return path

    def make_map(self, pixels: Tensor, file: Path) -> HeatMap:
        """Return the map of an image.

        Args:
            pixels: (3, H, W) uint8, decoded.
            file: of the image.

        Raises:
            JobError: the network has no exact map by blocks.
            UsageError: the same of a model that sees several crops.
        """
        predictor = self.predictor
        own = predictor.transform.preprocessing
        if own is None:
            seen = test_crop_window(pixels, predictor.settings.resize_size)
        else:
            seen = own.seen_window(*pixels.shape[-2:])
        if self.by == "blocks":
            if predictor.settings.test_crops:
                raise UsageError(
                    "--heat-map-by blocks: this model uses several crops per image. "
                    "Use --heat-map-by occlusion."
                )
            view = predictor.apply_test_transform(pixels, file)
            return class_activation(predictor.model, view, pixels, seen)

        def score(images: list[Tensor]) -> NDArray[np.float64]:
            views = torch.stack([predictor.apply_test_transform(image, file) for image in images])
            logits: NDArray[np.float64] = predictor.logits(views).double().numpy()
            return logits

        if own is None or not own.resize:
            return occlusion(pixels, seen, score, batch_size=predictor.settings.batch_size)
        # squares of the resized image, which the transform leaves as it is; the image itself may be far larger
        resized = own.apply_resize(pixels, file)
        crop = test_crop_window(resized, own.crop)
        heat = occlusion(resized, crop, score, batch_size=predictor.settings.batch_size)
        top, left = max(seen.top, 0), max(seen.left, 0)  # the black border has no values
        inside = Window(
            top=top,
            left=left,
            height=min(seen.bottom, pixels.shape[-2]) - top,
            width=min(seen.left + seen.width, pixels.shape[-1]) - left,
        )
        return HeatMap(values=_resize_map(torch.from_numpy(heat.values), inside), window=inside)

    def _path(self, image: Path) -> Path:
        if self.output.suffix.lower() == SUFFIX and not self.output.is_dir():
            return self.output
        name, number = f"{image.stem}{SUFFIX}", 1
        while name in self.names:  # the name is that of an image of another folder
            number += 1
            name = f"{image.stem}-{number}{SUFFIX}"
        self.names.add(name)
        return self.output / name
