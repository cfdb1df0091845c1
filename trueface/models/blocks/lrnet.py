"""LRNet: two recurrent networks see how landmarks move.

Z. Sun et al., "Improving the efficiency and robustness of deepfakes detection through precise geometric features", CVPR
2021. One network reads the points of each frame, the other one their differences from frame to frame. The names of the
tensors are those of the published program (github.com/frederickszk/LRNet, MIT), after `points.` or `differences.`.
"""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trueface.data.landmarks import POINTS
from trueface.runtime.errors import WeightsError

NUMBERS = 2 * POINTS  # x and y of each point
UNITS = 32  # units of the recurrent layer, in each direction
HIDDEN = 64  # units of the layer before the last one
POINT_DROPOUT, DROPOUT = 0.1, 0.5
# SHA-256 of the published files of both networks, by folder of the published program
PAIRS: Mapping[str, tuple[str, str]] = {
    "demo/model_weights": (
        "2d057605d518b7527fd1931aa2522bbb9040eb11ff8a3181b3e351e89b55ed4c",
        "7380f8f96bc2a1e3e4e9bea8a6d226b9f56661b875106d34702e337fa503e07f",
    ),
    "training/weights/torch": (
        "d953cfc1a5354493141e13ac074c7306e86ab768d6f015cedfc17f2b6485dd62",
        "45e50a803c8bbc4851646842765a01f25c34a7085e86e67e06f9598c9e1f34c4",
    ),
}
DEMO = "demo/model_weights"  # the pair of the published numbers
STREAMS = ("points", "differences")
log = logging.getLogger(__name__)


class PointDropout(nn.Module):
    """Leave out points, in training: the same ones in all frames and clips of a batch."""

    draws_alike = True  # all processes of a training draw the same; see `training.distributed`

    def __init__(self, probability: float = POINT_DROPOUT) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, rows: Tensor) -> Tensor:
        """Return the rows (B, T, 136) without the points that are left out."""
        if not self.training:
            return rows
        kept = torch.full((POINTS,), 1 - self.probability, device=rows.device).bernoulli()
        scaled: Tensor = rows * (kept / (1 - self.probability)).repeat_interleave(2)
        return scaled


class ResidualLayers(nn.Module):
    """Two linear layers whose output is added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # attributes with the names of the published tensors: dense.1.fn.net.0 and dense.1.fn.net.3
        layers = nn.Sequential(
            nn.Linear(width, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, width)
        )
        self.fn = nn.ModuleDict({"net": layers})

    def forward(self, values: Tensor) -> Tensor:
        """Return values (B, width) with the output of the layers."""
        added: Tensor = values + self.fn["net"](values)
        return added


class Stream(nn.Module):
    """A network from rows of numbers to the margin of fake."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden_state = nn.Parameter(torch.randn(2, 1, UNITS))
        self.dropout_landmark = PointDropout()
        self.gru = nn.GRU(NUMBERS, UNITS, batch_first=True, bidirectional=True)
        self.dense = nn.Sequential(
            nn.Dropout(DROPOUT),
            ResidualLayers(2 * UNITS),
            nn.Dropout(DROPOUT),
            nn.Linear(2 * UNITS, 2),
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Return the log odds of fake (B,) of rows (B, T, 136)."""
        start = self.hidden_state.expand(-1, len(rows), -1).contiguous()  # (2, B, 32)
        _, last = self.gru(self.dropout_landmark(rows), start)
        logits: Tensor = self.dense(torch.cat((last[0], last[1]), dim=1))  # (B, 2)
        return logits[:, 1] - logits[:, 0]


class LrNet(nn.Module):
    """The two streams."""

    def __init__(self) -> None:
        super().__init__()
        self.points, self.differences = Stream(), Stream()

    def forward(self, landmarks: Tensor) -> Tensor:
        """Return the log odds (B, 1) of the mean probability of both streams, of landmarks (B, T, 68, 2)."""
        return log_odds_of_mean(self.forward_streams(landmarks))

    def check_files(self, digests: Mapping[str, str]) -> None:
        """Refuse published files in the wrong place, and log which pair they are.

        Raises:
            WeightsError: the files are exchanged, or of two pairs.
        """
        places = [
            (folder, STREAMS[pair.index(digests[name])], name)
            for name in STREAMS
            for folder, pair in PAIRS.items()
            if digests[name] in pair
        ]
        if wrong := [(right, name) for _, right, name in places if right != name]:
            right, name = wrong[0]
            raise WeightsError(
                f"weights: the file of {name} is the published file of {right}. Exchange both files: points is g1.pth, "
                "differences is g2.pth."
            )
        folders = {folder for folder, _, _ in places}
        if len(folders) > 1:
            raise WeightsError(
                f"weights: the files are of two pairs, {' and '.join(sorted(folders))}. Give both files of one folder."
            )
        if len(places) < len(STREAMS):
            log.warning("weights=lrnet state=not the published files, whose numbers are known")
        elif DEMO not in folders:
            log.warning(
                "weights=lrnet pair=%s state=not the pair of the published demo (%s), and gives other numbers",
                *folders, DEMO,
            )  # fmt: skip

    def forward_streams(self, landmarks: Tensor) -> Tensor:
        """Return the log odds of fake of both streams, (B, 2), of landmarks (B, T, 68, 2)."""
        rows = landmarks.flatten(2)  # (B, T, 136)
        # differences have T - 1 rows
        return torch.stack((self.points(rows), self.differences(rows.diff(dim=1))), dim=1)


def log_odds_of_mean(margins: Tensor) -> Tensor:
    """Return log p / (1 - p), (B, 1), of the mean p of the probabilities whose log odds are (B, K)."""
    margins = margins.float()
    fake, real = nn.functional.logsigmoid(margins), nn.functional.logsigmoid(-margins)
    return (fake.logsumexp(1) - real.logsumexp(1))[:, None]
