"""A model that is tested: from a feed, or from pixels, to its answers."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trueface.data.index import Image
from trueface.data.loaders import Pass
from trueface.evaluation.attacked import Score
from trueface.evaluation.inference import Answers, evaluate_images
from trueface.evaluation.operating_threshold import Calibration
from trueface.features.body import FrozenBody
from trueface.features.store import FeatureStore
from trueface.models.detectors import Detector
from trueface.runtime.files import Json
from trueface.runtime.precision import autocast
from trueface.runtime.progress import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A model, and how it computes."""

    model: Detector  # on the device
    watch: Watch
    constant: bool  # see `evaluate_images`, as for the store
    store: FeatureStore | None
    calibration: Calibration | None = None  # None: it calls fake what is above probability 0.5

    @property
    def threshold(self) -> float:
        """The logit above which the model calls an image fake."""
        return 0.0 if self.calibration is None else self.calibration.threshold

    def answers(self, feed: Pass) -> Answers:
        """Return the model's answers to every image of a feed."""
        return evaluate_images(
            self.model, feed, self.watch, constant=self.constant, store=self.store
        )

    def scorer(self) -> Score:
        """Return what asks the model for logits (B,) of pixels uint8, as its tests do."""
        model, watch = self.model, self.watch
        body = FrozenBody(model, device=watch.device, precision=watch.precision)

        def score(pixels: Tensor) -> Tensor:
            with torch.no_grad(), autocast(watch.device, watch.precision):
                if self.constant:
                    logits = model.forward_head(body(pixels))
                else:
                    logits = model(pixels.to(watch.device))
            return logits.float().squeeze(1).cpu()

        return score


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """What a test gave."""

    images: tuple[Image, ...]  # that were scored
    feed: Pass  # of these
    answers: Answers | None  # to them; None where an attack cannot be done
    record: Mapping[str, Json]  # of the attack
