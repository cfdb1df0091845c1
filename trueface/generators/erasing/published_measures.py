"""FID, KID and CLIP score as publications report them, by torchmetrics, on local weight files.

FID is equation 6 of M. Heusel et al., arXiv 1706.08500. KID is section 4 of M. Bińkowski et al., arXiv 1801.01401.
Both use the InceptionV3 features of torch-fidelity. The CLIP score is that of J. Hessel et al., arXiv 2104.08718,
without its factor: the cosine of image and text, as published tables of erasing report it. The packages belong to
an extra and are imported only by functions that need them.
"""

import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trueface.data.folders import describe_names
from trueface.generators.erasing.registry import unavailable_measures
from trueface.generators.made_folders import to_uint8
from trueface.models.assembly import read_state
from trueface.runtime.errors import CheckpointError, JobError, WeightsError
from trueface.runtime.progress import RunContext

FEATURES = "2048"  # features of InceptionV3: inputs of its last layer
SUBSETS, MOST_OF_SUBSET = 100, 1000  # sizes for KID, torchmetrics' own; fewer images: all of them
AT_ONCE = 64  # images


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedMeasures:
    """The networks of the measures; a measure without a network is not made."""

    inception: Any = None  # a network of torchmetrics, which has no types
    clip: Any = None  # a model and its processor
    device: str = "cpu"

    def compute_published(
        self, student: Tensor, teacher: Tensor, texts: Sequence[str], seed: int, watch: RunContext
    ) -> dict[str, float]:
        """Return `fid`, `kid` and `clip_score`, as far as their networks are there.

        Args:
            student: N×C×H×W in [-1, 1], N at least 2.
            teacher: images of the teacher, for comparison.
            texts: prompt of each of the student's images.
            seed: of KID's subsets.
            watch: may stop between two batches.

        Raises:
            JobError: stopped.
        """
        measures: dict[str, float] = {}
        if self.inception is None and self.clip is None:
            return measures
        with _isolate_rng_and_warnings(seed, self.device):
            if self.inception is not None:
                measures = self._distances(student, teacher, watch)
            if self.clip is not None:
                measures["clip_score"] = self._clip_score(student, texts, watch)
        return measures

    def _distances(self, student: Tensor, teacher: Tensor, watch: RunContext) -> dict[str, float]:
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance

        size = min(MOST_OF_SUBSET, len(student), len(teacher))
        fid = FrechetInceptionDistance(feature=self.inception).to(self.device)
        kid = KernelInceptionDistance(feature=self.inception, subsets=SUBSETS, subset_size=size).to(
            self.device
        )
        for images, real in ((teacher, True), (student, False)):
            for part in torch.split(images, AT_ONCE):
                watch.raise_if_stopped()
                for distance in (fid, kid):
                    distance.update(_pixels(part, self.device), real=real)
        return {"fid": float(fid.compute()), "kid": float(kid.compute()[0])}

    def _clip_score(self, images: Tensor, texts: Sequence[str], watch: RunContext) -> float:
        from torchmetrics.functional.multimodal import clip_score

        total = 0.0
        for start in range(0, len(images), AT_ONCE):
            watch.raise_if_stopped()
            part = _pixels(images[start : start + AT_ONCE], self.device)
            named = list(texts[start : start + AT_ONCE])
            score = clip_score(part, named, model_name_or_path=lambda: self.clip)
            total += float(score) * len(part)
        return total / len(images) / 100  # torchmetrics' is a hundred times the cosine


def published_measures(inception: Path | None, clip: Path | None, device: str) -> PublishedMeasures:
    """Return the measures whose weights are given.

    Args:
        inception: a state dict of InceptionV3 as torch-fidelity has it; nothing in it is executed.
        clip: folder of a CLIP model in the layout of transformers, its weights as safetensors.
        device: where they work.

    Raises:
        JobError: a package of the extra is missing; says how to install it.
        CheckpointError: the weights cannot be read, or are of another network.
    """
    for reason in unavailable_measures(inception=inception is not None, clip=clip is not None):
        raise JobError(reason)
    os.environ["HF_HUB_OFFLINE"] = "1"  # files missing from a folder must not be downloaded
    with _isolate_rng_and_warnings(0, device):
        return PublishedMeasures(
            inception=None if inception is None else _inception(inception, device),
            clip=None if clip is None else _clip(clip, device),
            device=device,
        )


def _inception(path: Path, device: str) -> Any:
    from torchmetrics.image.fid import NoTrainInceptionV3

    try:
        state = read_state(path)
    except WeightsError as error:
        raise CheckpointError(f"inception: {error}") from error
    # torch-fidelity reads files only, and unpickles them
    with tempfile.TemporaryDirectory() as folder:
        safe = Path(folder) / "inception.pt"
        torch.save(state, safe)
        try:
            network = NoTrainInceptionV3("inception-v3-compat", [FEATURES], str(safe))
        except RuntimeError as error:
            raise CheckpointError(
                f"inception: the weights in {path} do not fit torch-fidelity's InceptionV3. Give "
                "pt_inception-2015-12-05-6726825d.pth."
            ) from error
    # otherwise torchmetrics calls it with an image, on the CPU
    network.num_features = int(FEATURES)
    return network.to(device)


def _clip(folder: Path, device: str) -> Any:
    from transformers import CLIPModel, CLIPProcessor

    try:
        model, loading = CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"clip: {folder} is not a CLIP model in the layout of transformers with safetensors ({first})"
        ) from error
    if loading["missing_keys"]:  # transformers initialises them at random
        raise CheckpointError(
            f"clip: weights of the model are missing in {folder}: {describe_names(sorted(loading['missing_keys']))}"
        )
    return _Projections(model.float().to(device).eval()), processor


class _Projections:
    """A CLIP model as torchmetrics calls it: returns tensors, where transformers 5 returns output objects."""

    def __init__(self, model: Any) -> None:
        self.model, self.config = model, model.config

    def to(self, device: torch.device) -> "_Projections":
        return _Projections(self.model.to(device))

    def get_image_features(self, *arguments: Tensor) -> Tensor:
        return _project_answer(self.model.get_image_features(*arguments))

    def get_text_features(self, *arguments: Tensor) -> Tensor:
        return _project_answer(self.model.get_text_features(*arguments))


def _project_answer(answer: Any) -> Tensor:
    projected: Tensor = answer if isinstance(answer, Tensor) else answer.pooler_output
    return projected


def _pixels(images: Tensor, device: str) -> Tensor:
    """Return grey levels N×3×H×W, uint8; grey is repeated."""
    return to_uint8(images.to(device)).expand(-1, 3, -1, -1).contiguous()


@contextmanager
def _isolate_rng_and_warnings(seed: int, device: str) -> Iterator[None]:
    """Restore torch's random state and hide warnings, because external packages change both."""
    cards = [device] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cards), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        yield
