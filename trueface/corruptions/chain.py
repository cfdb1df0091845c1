"""Corruptions of one image, one after another.

They are applied to the test crop of an image, (3, H, W) uint8, and keep its size. Their random
parameters are a function of the step, its position in the chain and the image's name alone. Neither
the order of loading nor the model changes a pixel.

Programs of a kind read bytes and write bytes, without a shell. They belong to the process group of
the job, so that its stop ends them, too. A program that takes longer than a minute is killed.
"""

import random
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Self

import numpy as np
import PIL
import PIL.features
import torch
import torchvision
from torch import Tensor

from trueface.corruptions.registry import SPECS, CorruptionStep, format_steps, parse_steps
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.runtime.rng import python_rng

# (3, H, W) uint8, strength, randomness → (3, H, W) uint8; it changes nothing in place
CorruptionFunction = Callable[[Tensor, float, random.Random], Tensor]
MOST_S = 60.0  # seconds of a program, for one picture


@dataclass(frozen=True)
class Chain:
    """Some corruptions in their order; empty: none."""

    steps: tuple[CorruptionStep, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a chain such as `jpeg50+blur1`.

        Raises:
            ValueError: see `registry.parse_steps`.
        """
        return cls(parse_steps(text))

    def __str__(self) -> str:
        return format_steps(self.steps)

    def __bool__(self) -> bool:
        return bool(self.steps)

    def __call__(self, pixels: Tensor, name: str) -> Tensor:
        """Return an image after the corruptions.

        Args:
            pixels: (3, H, W) uint8. Not changed.
            name: of the image. Random parameters depend on it.

        Raises:
            JobError: a kind did not return an image of this size.
        """
        for position, (step, function) in enumerate(self._functions):
            stream = f"{position}/{step}/{name}"
            strength = step.draw_strength(python_rng(f"strength/{stream}"))
            pixels = _apply_step(step, function, pixels, strength, f"corrupt/{stream}")
        return pixels

    def corrupt_clip(self, frames: Tensor, name: str) -> Tensor:
        """Return the frames of a clip after the corruptions, (T, 3, H, W) uint8.

        Strength and quality are drawn once. See `CorruptionSpec.frames` for other random values.

        Args:
            frames: (T, 3, H, W) uint8. Not changed.
            name: of the clip. Random parameters depend on it.

        Raises:
            JobError: a kind did not return images of this size.
        """
        for position, (step, function) in enumerate(self._functions):
            stream = f"{position}/{step}/{name}"
            strength = step.draw_strength(python_rng(f"strength/{stream}"))
            kind = SPECS[step.name].frames
            if kind == "together":
                frames = _apply_step(step, function, frames, strength, f"corrupt/{stream}")
                continue
            draws = [
                f"corrupt/{stream}" + (f"/{place}" if kind == "apart" else "")
                for place in range(len(frames))
            ]
            frames = torch.stack(
                [
                    _apply_step(step, function, frame, strength, draw)
                    for frame, draw in zip(frames, draws, strict=True)
                ]
            )
        return frames

    @property
    def draws(self) -> bool:
        """Whether images of other names come out otherwise."""
        return any(step.draws for step in self.steps)

    @cached_property
    def _functions(self) -> tuple[tuple[CorruptionStep, CorruptionFunction], ...]:
        return tuple((step, SPECS.load(step.name)) for step in self.steps)

    @property
    def json_record(self) -> dict[str, Json]:
        """The steps and the library versions, because JPEG differs between versions."""
        return {
            "chain": str(self),
            "steps": [step.json_record for step in self.steps],
            "libraries": versions(),
            **self._programs,
        }

    @property
    def _programs(self) -> dict[str, Json]:
        """The versions of the programs that steps start, where there are any."""
        names = {SPECS[step.name].program for step in self.steps} - {""}
        return (
            {"programs": {name: program_version(name) for name in sorted(names)}} if names else {}
        )


NO_CHAIN = Chain(())


def _apply_step(
    step: CorruptionStep, function: CorruptionFunction, pixels: Tensor, strength: float, stream: str
) -> Tensor:
    """Return pixels after one step, with the random values of a stream."""
    changed = function(pixels, strength, python_rng(stream))
    if changed.shape != pixels.shape or changed.dtype != torch.uint8:
        raise JobError(
            f"corruption {step} returned {changed.dtype} {tuple(changed.shape)}, expected uint8 "
            f"{tuple(pixels.shape)}"
        )
    return changed


def versions() -> dict[str, Json]:
    """Return the versions of what codes, resizes and draws."""
    return {
        "pillow": PIL.__version__,
        "libjpeg": PIL.features.version("jpg"),
        "libjpeg_turbo": PIL.features.version("libjpeg_turbo"),
        "libwebp": PIL.features.version("webp"),
        "numpy": np.__version__,
        "torchvision": str(torchvision.__version__),
    }


def pipe_through(command: Sequence[str], content: bytes) -> bytes:
    """Return what a program writes when it gets `content`.

    Raises:
        JobError: it is not installed, fails, or does not end within a minute; gives its last line
        of output.
    """
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, check=False, timeout=MOST_S
        )
    except FileNotFoundError as error:
        raise JobError(
            f"program {command[0]} is not in PATH. Install it, or leave out the corruption that needs "
            "it."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise JobError(
            f"{command[0]} was killed, because it ran for more than {MOST_S:g} s on one image"
        ) from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else f"exit code {done.returncode}"
        raise JobError(f"{command[0]} failed: {last}. Check that {command[0]} supports libx264.")
    return done.stdout


@cache
def program_version(program: str) -> str | None:
    """Return the first line of a program's version output, or None if there is none."""
    try:
        done = subprocess.run([program, "-version"], capture_output=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.decode(errors="replace").splitlines()
    return lines[0].strip() if lines else None
