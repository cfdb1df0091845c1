"""What is worth keeping between two unlearnings of one model: features, importances, covariances.

A file is found again by all that it follows from, weights included; a broken one is made again.
The time it took to make is stored with it, so a method's cost is known with and without it.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from torch import Tensor, nn

from trueface.data.examples import CostCounter, Examples
from trueface.models.logits import BackboneHeadSplit
from trueface.runtime import tensor_files
from trueface.runtime.digests import sha256_digest, sha256_hex
from trueface.runtime.errors import MachineError
from trueface.runtime.progress import RunContext
from trueface.runtime.timer import now

SCHEMA = 1

log = logging.getLogger(__name__)


class Cache:
    """A folder of tensors; without a folder everything is computed again."""

    def __init__(self, folder: Path | None, meter: CostCounter) -> None:
        self._folder, self._meter = folder, meter

    def tensors(
        self, name: str, follows_from: Sequence[str], make: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Return the result of `make`, on the CPU, from the folder if it is there already.

        Args:
            name: of the file, a word: "features".
            follows_from: all that the result is a function of, as texts.
            make: computes the value. Its samples and time are counted separately.
        """
        digest = sha256_hex(repr(tuple(follows_from)))[:20]
        path = None if self._folder is None else self._folder / f"{name}-{digest}.pt"
        kept = None if path is None else _load_entry(path)
        if kept is None:
            began, before = now(), self._meter.samples
            tensors = {key: tensor.detach().cpu() for key, tensor in make().items()}
            seconds, samples = now() - began, self._meter.samples - before
            self._meter.samples = before
            if path is not None:
                _save_entry(path, tensors, seconds, samples)
            self._meter.making_seconds += now() - began
        else:
            tensors, seconds, samples = kept
            log.info("cache=%s state=found", name)
        self._meter.cached_seconds += seconds
        self._meter.cached_samples += samples
        return tensors

    def features(
        self,
        name: str,
        follows_from: Sequence[str],
        model: nn.Module,
        samples: Examples,
        watch: RunContext,
    ) -> tuple[Tensor, Tensor]:
        """Return the inputs of the last layer, (N, F) float32, and the samples' positions (N,).

        Args:
            name: of the file.
            follows_from: see `tensors`.
            model: in evaluation mode.
            samples: as they are tested.
            watch: device, precision, stop.

        Raises:
            JobError: see `BackboneHeadSplit.compute_features`.
        """

        def make() -> dict[str, Tensor]:
            features, positions = BackboneHeadSplit(model).compute_features(samples, watch)
            return {"features": features, "positions": positions}

        kept = self.tensors(name, follows_from, make)
        return kept["features"], kept["positions"]


def fingerprint(model: nn.Module | Mapping[str, Tensor]) -> str:
    """Return a checksum of a model, or of some tensors by name.

    The fingerprint of a model covers all its numbers, also those that it does not save, and its layers.
    """
    if not isinstance(model, nn.Module):
        return sha256_digest(tensor_files.digest_parts(model.items())).hex()
    state = (*model.named_parameters(), *model.named_buffers())
    # strides and paddings are not among its numbers
    return sha256_digest(chain([repr(model)], tensor_files.digest_parts(state))).hex()


def _load_entry(path: Path) -> tuple[dict[str, Tensor], float, int] | None:
    try:
        content = tensor_files.load(path)
        if content["schema"] == SCHEMA:
            return content["tensors"], float(content["seconds"]), int(content["samples"])
    except FileNotFoundError:
        return None
    except (
        tensor_files.BrokenFileError,
        MachineError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        log.warning("cache=%s state=broken reason=%s", path.name, error)
    return None


def _save_entry(path: Path, tensors: dict[str, Tensor], seconds: float, samples: int) -> None:
    content = {"schema": SCHEMA, "tensors": tensors, "seconds": seconds, "samples": samples}
    try:
        tensor_files.save(path, content)
    except MachineError as error:  # it is only quicker with it
        log.warning("cache=%s state=not kept reason=%s", path.name, error)
