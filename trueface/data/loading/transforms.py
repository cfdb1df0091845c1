"""Transforms of an image between its file and the network.

    training: resize crop* → centre crop → (unshared only: blur* → JPEG*) → flips* → patch*
        → registered augmentations
    testing: (published models only: resizing) → centre crop → corruptions → a few fixed patches of
        it, or the whole
    copies: The test image, corrupted or mirrored, for a training in closed form.

Steps with * are random. Their randomness is a function of seed, image and epoch alone. Neither the
order of loading nor the number of loading processes changes a pixel. Images stay uint8. The network
converts whole batches to float32, normalised for its weights.

A detector that is trained on clean images alone uses JPEG traces or blur as a sign of the class.
Corrupted copies are *matched*: the i-th real and the i-th fake image get the same corruption of the
same strength, so that no corruption reveals the class. Kinds come in turn.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Final, Protocol

import PIL.Image
import simplejpeg
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as image_ops

from trueface.corruptions.chain import NO_CHAIN, Chain
from trueface.data.augmentations.steps import (
    AugmentationParams,
    AugmentationSteps,
    RegisteredAugmentation,
    Window,
    active_augmentations,
    centre_offset,
    crop_padded,
    crop_relative,
)
from trueface.data.index import Image
from trueface.data.landmarks import read_points
from trueface.data.loading.preprocessing import Preprocessing
from trueface.data.settings import SELF_BLENDING, AugmentationSettings, TestSettings
from trueface.data.vocabulary import UNSHARED
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.runtime.rng import python_rng

if TYPE_CHECKING:
    from trueface.data.forging.blending import SelfBlending


BLUR_KERNEL = 15  # pixels; the original's, whatever the sigma
BLUR_REACH = BLUR_KERNEL // 2
JPEG_CELL = 16  # pixels that are coded apart from all others: blocks of 8 x 8, colour at half size
JPEG_REACH = 2  # pixels by which the upsampling of colour looks into the next cell
CORRUPTED: Final = "corrupted"
VARIED: Final = "varied"
TURNED: Final = "turned"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformId:
    """The identity of the network input, apart from the file, its decoding and the epoch."""

    identity: Mapping[str, Json]  # two transforms of one identity give the same pixels
    view_identity: Mapping[str, Json]  # two that share this, too, in views of the same number
    period: int  # epochs that differ, after which they repeat; 1: none; 0: they never repeat
    is_test: bool  # whether images are seen exactly as in a test of the same settings
    # by an image's name, what its pixels alone depend on, too
    row_identity: Mapping[str, str] = field(default_factory=dict)

    def view(self, epoch: int) -> int:
        """Return the number of the view of an image that this epoch sees."""
        return epoch % self.period if self.period else epoch


class Transform(Protocol):
    """From decoded pixels to what the network sees."""

    @property
    def id(self) -> TransformId:
        """The identity of its pixels, and the number of different epochs."""

    def __call__(self, pixels: Tensor, image: Image, epoch: int) -> Tensor:
        """Return (3, h, w) or (crops, 3, h, w) of (3, H, W), uint8."""

    def rows_needed(self, height: int, width: int, image: Image, epoch: int) -> int:
        """Return the row of the image from which on no pixel changes the result."""


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """The random transform of a training."""

    settings: AugmentationSettings
    seed: int  # settings.augment_seed; the training's own seed changes no pixel

    @cached_property
    def steps(self) -> AugmentationSteps:
        """The original's five steps."""
        return AugmentationSteps.from_settings(self.settings)

    @cached_property
    def registered_augmentations(self) -> tuple[RegisteredAugmentation, ...]:
        """The augmentations of other files that are active."""
        return active_augmentations(self.settings)

    @cached_property
    def self_blending(self) -> "SelfBlending | None":
        """The self-blending of real images before the steps, or None."""
        if self.settings.sbi == 0:
            return None
        # by name, so that trainings without it do not depend on its code
        blending: SelfBlending = import_module(SELF_BLENDING).SelfBlending(self.settings.sbi)
        return blending

    def makes_fake(self, image: Image, epoch: int) -> bool:
        """Return whether a real image is shown as a fake of itself in this epoch."""
        blending = self.self_blending
        return blending is not None and blending.makes_fake(image, self._stream(image, epoch))

    @cached_property
    def id(self) -> TransformId:
        """The identity of its pixels, and the number of different epochs."""
        cycle = self.settings.augment_cycle
        is_random = self.steps.is_random or any(
            each.is_random for each in self.registered_augmentations
        )
        is_random |= self.self_blending is not None
        seeds: dict[str, Json] = {"augment_seed": self.seed, "augment_cycle": cycle}
        identity = {**seeds, "sbi": self.settings.sbi, **self.steps.identity}
        for each in self.registered_augmentations:
            identity |= each.identity
        is_test = (
            not is_random and not self.registered_augmentations and self.settings.test_crops == 0
        )
        # the number of views changes none of them
        of_view = {key: value for key, value in identity.items() if key != "augment_cycle"}
        return TransformId(
            identity=identity,
            view_identity=test_transform(self.settings).id.view_identity if is_test else of_view,
            period=cycle if is_random else 1,
            is_test=is_test,
        )

    def __call__(self, pixels: Tensor, image: Image, epoch: int) -> Tensor:
        """Return the image as the network sees it in this epoch, (3, h, w) uint8."""
        if self.self_blending is not None:
            face = pixels.permute(1, 2, 0).numpy()
            face = self.self_blending(face, image, self._stream(image, epoch))
            pixels = torch.from_numpy(face).permute(2, 0, 1)
        height, width = pixels.shape[-2:]
        parameters = self.parameters(height, width, image, epoch)
        seen = apply_augmentation(pixels, parameters, self.settings.resize_size)
        for each in self.registered_augmentations:
            seen = each(seen, self._stream(image, epoch), unshared=image.modifier in UNSHARED)
        return seen

    def rows_needed(self, height: int, width: int, image: Image, epoch: int) -> int:
        """Return the first row below the part of the image that the network gets in this epoch."""
        if self.self_blending is not None:  # a blend looks at all of the face
            return height
        parameters = self.parameters(height, width, image, epoch)
        if parameters.crop is not None:
            return parameters.crop.bottom
        size = self.settings.resize_size
        down, _ = centre_offset(height, width, size)
        return min(height, max(0, step_windows(parameters, size).soft.bottom + down))

    def parameters(self, height: int, width: int, image: Image, epoch: int) -> AugmentationParams:
        """Return what is drawn for an image of this size in an epoch: a function of seed, name and epoch."""
        rng = python_rng(self._stream(image, epoch))
        return self.steps.sample_params(height, width, rng, unshared=image.modifier in UNSHARED)

    def _stream(self, image: Image, epoch: int) -> str:
        cycle = self.settings.augment_cycle
        turn = epoch % cycle if cycle > 0 else epoch
        return f"augment/{self.seed}/{turn}/{image.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TestTransform:
    """The transform of a test and of validation: nothing in it is random."""

    __test__ = False  # not a test case, whatever its name

    resize_size: int
    patch_size: int  # side of the patches; <= 0: that of the centre crop
    crops: int  # 0: the whole centre crop
    corruptions: Chain = NO_CHAIN  # corruptions of the centre crop
    preprocessing: Preprocessing | None = None  # a published model's; its crop is `resize_size`

    def with_preprocessing(self, preprocessing: Preprocessing | None) -> "TestTransform":
        """Return the transform with the preprocessing of a published model, which replaces crop and patches.

        None changes nothing.
        """
        if preprocessing is None:
            return self
        return replace(
            self,
            resize_size=preprocessing.crop,
            patch_size=-1,
            crops=0,
            preprocessing=preprocessing,
        )

    @property
    def id(self) -> TransformId:
        """The same pixels in every epoch."""
        corrupted: dict[str, Json] = {"corrupt": str(self.corruptions)} if self.corruptions else {}
        if self.preprocessing is not None:
            corrupted["preprocessing"] = self.preprocessing.json_record
        identity: dict[str, Json] = {
            "resize_size": self.resize_size,
            "patch_size": self.patch_size,
            "test_crops": self.crops,
            **corrupted,
        }
        of_view = identity if self.crops else {"resize_size": self.resize_size, **corrupted}
        # corruptions draw by an image's name, so that equal files of two names differ
        is_test = not self.corruptions and self.preprocessing is None
        return TransformId(identity=identity, view_identity=of_view, period=1, is_test=is_test)

    def __call__(self, pixels: Tensor, image: Image, epoch: int) -> Tensor:  # noqa: ARG002  # see Transform
        """Return the centre crop (3, h, w), or `crops` patches of it (crops, 3, h, w), uint8."""
        if self.preprocessing is not None:
            pixels = self.preprocessing.apply_resize(pixels, image.path)
        square = self.corruptions(self._crop_images(pixels), image.name)
        return square if self.crops == 0 else self._patches(square)

    def transform_clip(self, frames: Sequence[Tensor], clip: Image) -> Tensor:
        """Return the frames of a clip as the network sees them, (crops, T, 3, h, w) uint8. One crop is the centre.

        Args:
            frames: (3, H, W) uint8 each.
            clip: their clip.
        """
        resized = self._resized_frames(frames, clip)
        squares = torch.stack([self._crop_images(frame) for frame in resized])
        squares = self.corruptions.corrupt_clip(squares, clip.name)
        if self.crops == 0:
            return squares[None]
        return torch.stack([self._patches(square) for square in squares], dim=1)

    def _crop_images(self, pixels: Tensor) -> Tensor:
        square: Tensor = image_ops.center_crop(pixels, [self.resize_size, self.resize_size])
        return square

    def _patches(self, square: Tensor) -> Tensor:
        side = self.patch_size if self.patch_size > 0 else self.resize_size
        return fixed_crops(square, self.crops, side)

    def _resized_frames(self, frames: Sequence[Tensor], clip: Image) -> Sequence[Tensor]:
        own = self.preprocessing
        return frames if own is None else [own.apply_resize(frame, clip.path) for frame in frames]

    def rows_needed(self, height: int, width: int, image: Image, epoch: int) -> int:  # noqa: ARG002  # see Transform
        """Return the first row below the centre crop; of an image that is resized, every row is needed."""
        if self.preprocessing is not None and self.preprocessing.resize:
            return height
        down, _ = centre_offset(height, width, self.resize_size)
        return min(height, self.resize_size + down)


@dataclass(frozen=True, slots=True)
class LandmarkTransform:
    """The calibrated landmarks of a clip in place of its pixels. Nothing is drawn."""

    @property
    def id(self) -> TransformId:
        """The same landmarks in every epoch."""
        identity: dict[str, Json] = {"inputs": "landmarks"}
        return TransformId(identity=identity, view_identity=identity, period=1, is_test=True)

    def read_clip(self, clip: Image) -> Tensor:
        """Return the stored landmarks of the frames of a clip, (T, 68, 2) float32.

        Raises:
            BadImageError: the video has none, or they have a fault.
        """
        return torch.from_numpy(read_points(clip.frames or (clip.file,), is_calibrated=True))

    def __call__(self, pixels: Tensor, image: Image, epoch: int) -> Tensor:
        """Refuse pixels."""
        del pixels
        raise JobError(f"{image.file}: a network of landmarks got pixels in epoch {epoch}")

    def rows_needed(self, height: int, width: int, image: Image, epoch: int) -> int:  # noqa: ARG002  # see Transform
        """Return 0: no pixel is read."""
        return 0


def test_transform(settings: AugmentationSettings | TestSettings) -> TestTransform:
    """Return the transform that tests and validates under `settings`."""
    return TestTransform(
        resize_size=settings.resize_size,
        patch_size=settings.patch_size,
        crops=settings.test_crops,
        # a validation has none
        corruptions=Chain.parse(settings.corrupt)
        if isinstance(settings, TestSettings)
        else NO_CHAIN,
    )


def transform_clip(
    transform: Transform, frames: Sequence[Tensor], clip: Image, epoch: int
) -> Tensor:
    """Return the frames of a clip as the network sees them, (crops, T, 3, h, w) uint8.

    What is drawn follows from the name of the clip, so that all frames get the same crop, flip and strength.

    Args:
        transform: of the training or test.
        frames: (3, H, W) uint8 each, of one size.
        clip: their clip.
        epoch: of the pass.
    """
    if isinstance(transform, TestTransform):
        return transform.transform_clip(frames, clip)
    return torch.stack([transform(frame, clip, epoch) for frame in frames])[None]


def apply_augmentation(pixels: Tensor, parameters: AugmentationParams, size: int) -> Tensor:
    """Return an image after the steps with these parameters.

    Blur and JPEG are computed only for the region of the patch. The result is bit-identical to
    applying every step to the whole image.

    Args:
        pixels: (3, H, W) uint8.
        parameters: for an image of this height and width.
        size: side of the square that a resize makes, and that is cropped from the centre.
    """
    height, width = pixels.shape[-2:]
    down, right = centre_offset(height, width, size)
    if parameters.crop is not None:
        pixels, down, right = _resize_crop(pixels, parameters.crop, size), 0, 0
    view = step_windows(parameters, size)
    pixels = crop_padded(pixels, view.soft.shifted_by(down, right))
    if parameters.sigma is not None:
        sigma = [parameters.sigma, parameters.sigma]
        pixels = image_ops.gaussian_blur(pixels.contiguous(), [BLUR_KERNEL, BLUR_KERNEL], sigma)
        pixels = crop_relative(pixels, view.soft, view.coded)
    if parameters.quality is not None:
        pixels = crop_relative(jpeg_compress(pixels, parameters.quality), view.coded, view.seen)
    # black where the patch is larger than the square
    pixels = crop_relative(pixels, view.seen, view.patch)
    flips = [axis for axis, flip in ((-1, parameters.mirrored), (-2, parameters.turned)) if flip]
    return pixels.flip(flips) if flips else pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWindows:
    """The window of the square that each step reads, from the last step back, without flips."""

    patch: Window  # part that the network gets; may exceed the square
    seen: Window  # part of the square that the network gets
    coded: Window  # part that JPEG needs for that, in whole cells
    soft: Window  # part that the blur needs for that


def step_windows(parameters: AugmentationParams, size: int) -> StepWindows:
    """Return what the drawn steps need of a square of this side."""
    whole = Window(top=0, left=0, height=size, width=size)
    patch = parameters.patch or whole
    patch = patch.flip(size, horizontal=parameters.mirrored, vertical=parameters.turned)
    coded = seen = patch.clipped_to(size)
    if parameters.quality is not None:
        coded = seen.padded_by(JPEG_REACH, size, multiple=JPEG_CELL)
    soft = coded if parameters.sigma is None else coded.padded_by(BLUR_REACH, size)
    return StepWindows(patch=patch, seen=seen, coded=coded, soft=soft)


def fixed_crops(pixels: Tensor, count: int, side: int) -> Tensor:
    """Return patches at positions that depend only on the sizes: (count, 3, side, side).

    The positions form the most nearly square grid of `count` cells that spans the image. A single
    patch is the centre.
    """
    pixels = _pad_image(pixels, side)
    rows = max(number for number in range(1, int(count**0.5) + 1) if count % number == 0)
    tops = _places(pixels.shape[-2] - side, rows)
    lefts = _places(pixels.shape[-1] - side, count // rows)
    return torch.stack(
        [pixels[:, top : top + side, left : left + side] for top in tops for left in lefts]
    )


def jpeg_compress(pixels: Tensor, quality: int) -> Tensor:
    """Return (3, H, W) uint8 after JPEG of this quality, chroma at half resolution.

    Pillow is used, because torchvision's coder (that of the original) is deprecated since 0.29.
    Both use libjpeg with the same tables.
    """
    file = io.BytesIO()
    PIL.Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(simplejpeg.decode_jpeg(file.getbuffer())).permute(2, 0, 1)


def _resize_crop(pixels: Tensor, crop: Window, size: int) -> Tensor:
    resized: Tensor = image_ops.resized_crop(
        pixels, crop.top, crop.left, crop.height, crop.width, [size, size]
    )
    return resized


def _pad_image(pixels: Tensor, side: int) -> Tensor:
    """Return the image with black borders, if it is smaller than `side`."""
    down, right = (max(0, side - length) for length in pixels.shape[-2:])
    if down == right == 0:
        return pixels
    padded: Tensor = image_ops.pad(pixels, [right, down])  # on both sides, as torchvision's crop
    return padded


def _places(room: int, count: int) -> list[int]:
    if count == 1:
        return [room // 2]
    return [room * number // (count - 1) for number in range(count)]


@dataclass(frozen=True, slots=True)
class CopyKind:
    """A kind of corruption, and the strengths that copies get."""

    name: str  # name in `trueface.corruptions`
    low: float = 0.0
    high: float = 0.0
    digits: int = 0  # decimals of the strength
    # one of these in the place of any between; neither: it takes no strength
    exact: tuple[float, ...] = ()


# kinds of the copies, in turn. Common ones come twice among the corrupted, so that a third of these has other
# processing. An image that was halved has other statistics than one resized by 0.48 or 0.52: interpolation weights
# repeat from pixel to pixel (A. Popescu and H. Farid, IEEE TSP 53(2), 2005), which factors drawn at random never show
COPY_KINDS: Mapping[str, tuple[CopyKind, ...]] = {
    CORRUPTED: (
        CopyKind("jpeg", 30, 95, 0),
        CopyKind("noise", 1, 7, 2),
        CopyKind("resize", 0.4, 0.9, 3),
        CopyKind("blur", 0.4, 1.8, 3),
        CopyKind("webp", 40, 95, 0),
        CopyKind("jpeg", 30, 95, 0),
        CopyKind("noise", 1, 7, 2),
        CopyKind("resize", 0.4, 0.9, 3, exact=(0.5, 0.75)),
        CopyKind("blur", 0.4, 1.8, 3),
        CopyKind("gamma", 0.7, 1.4, 3),
        CopyKind("sharpen", 0.3, 1.5, 3),
        CopyKind("contrast", 0.7, 1.4, 3),
    ),
    VARIED: (
        CopyKind("small", 0.35, 0.9, 3),
        CopyKind("small", 0.5, 0.95, 3),
        CopyKind("saturation", exact=(0,)),
        CopyKind("small", 0.35, 0.9, 3, exact=(0.4, 0.5, 0.75)),
        CopyKind("impulse", 0.2, 2, 2),
        CopyKind("palette", 24, 160, 0),
        CopyKind("small", 0.35, 0.6, 3),
        CopyKind("palette", 24, 160, 0),
        CopyKind("share"),
        CopyKind("median", exact=(1,)),
        CopyKind("gamma", 0.5, 2, 3),
        CopyKind("impulse", 0.2, 2, 2),
    ),
    TURNED: (CopyKind("turn", exact=(1, 2, 2, 3)),),
}


def matched_chains(images: Sequence[Image], seed: int, copy: str = CORRUPTED) -> dict[str, Chain]:
    """Return the corruption of each image's copy, by the image's name.

    Args:
        images: of both classes, in the order of the list.
        seed: of the strengths.
        copy: which one, of COPY_KINDS.
    """
    places = {label: count() for label in (0, 1)}
    return {image.name: _copy_chain(next(places[image.label]), seed, copy) for image in images}


def _copy_chain(position: int, seed: int, copy: str) -> Chain:
    kinds = COPY_KINDS[copy]
    kind = kinds[position % len(kinds)]
    if not kind.high and not kind.exact:
        return Chain.parse(kind.name)
    stream = "copies" if copy == CORRUPTED else f"copies/{copy}"
    rng = python_rng(f"{stream}/{seed}/{position}")
    strength = rng.choice(kind.exact) if kind.exact else rng.uniform(kind.low, kind.high)
    return Chain.parse(f"{kind.name}{round(strength, kind.digits):g}")


@dataclass(frozen=True, kw_only=True)
class ImageCopy:
    """The test image, corrupted, rotated or mirrored. It is the same in each epoch."""

    tested: TestTransform
    copy: str  # name of the copy
    chains: Mapping[str, Chain] | None  # by the image's name; None: left and right are exchanged

    @cached_property
    def id(self) -> TransformId:
        """The identity of the pixels, with the chain of each image."""
        own: dict[str, Json] = {"copy": self.copy}
        of_row = {name: str(each) for name, each in (self.chains or {}).items()}
        return TransformId(
            identity={**self.tested.id.identity, **own, "rows": dict(of_row)},
            view_identity={**self.tested.id.view_identity, **own},
            period=1,
            is_test=False,
            row_identity=of_row,
        )

    def __call__(self, pixels: Tensor, image: Image, epoch: int) -> Tensor:
        """Return the changed centre crop (3, h, w), or patches of it (crops, 3, h, w), uint8."""
        if self.chains is None:
            return self.tested(pixels, image, epoch).flip(-1)
        return replace(self.tested, corruptions=self.chains[image.name])(pixels, image, epoch)

    def rows_needed(self, height: int, width: int, image: Image, epoch: int) -> int:
        """Return the first row below the part of the image that a test reads."""
        return self.tested.rows_needed(height, width, image, epoch)
