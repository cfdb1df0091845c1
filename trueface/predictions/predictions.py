"""The predictions of one model: logits, labels and identifiers of samples, one row each.

Detectors and networks of several classes share this container. A detector has one logit per image,
and so its rows have one column. Its tables stay in float64, the type in which metrics are computed.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trueface.data.vocabulary import MODIFIERS
from trueface.predictions.cross_entropy import log_softmax
from trueface.runtime.errors import DataError

if TYPE_CHECKING:  # imports torch, which reading files can do without
    from trueface.data.examples import Label

Labels = NDArray[np.int8 | np.int64]
Logits = NDArray[np.float32 | np.float64]

UNKNOWN = -1  # the true label is not known
NO_POSITIONS = np.zeros(0, np.int64)
_NUMBERED = re.compile(r"(.*/)?#\d+")  # a row without an image
_CLASSES = frozenset({"real", "fake"})
_BY_FOLDER = {folder: key for key, folders in MODIFIERS.items() for folder in folders}


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Logits of samples with their labels and names; samples that could not be read have no row.

    `labels` are those of the data, and of training samples those that the model was trained to
    give. `true_labels` differ from them if labels were flipped.
    """

    # (N, K), one column per class. K = 1: the logit of class 1 (fake), that of class 0 being 0
    logits: Logits
    labels: Labels  # (N,) in 0 … max(K, 2) - 1; of a detector 1 is fake, 0 real
    true_labels: Labels  # (N,) the right class, or UNKNOWN
    ids: tuple[str, ...] = ()  # (N,) names of the samples, such as paths below a data root; or ()
    keys: tuple[str, ...] = ()  # (N,) names that all copies of an image share; or ()
    videos: tuple[str, ...] = ()  # (N,) path of the video of a frame, "" of no frame; or ()
    positions: NDArray[np.int64] = field(default_factory=lambda: NO_POSITIONS)  # (N,) or (0,)

    def __post_init__(self) -> None:
        sizes = {len(self.logits), len(self.labels), len(self.true_labels)}
        names = (self.ids, self.keys, self.videos, self.positions)
        sizes |= {len(column) for column in names if len(column)}
        if len(sizes) != 1 or self.logits.ndim != 2:
            raise ValueError("each prediction needs its labels")

    def __len__(self) -> int:
        return len(self.logits)

    @classmethod
    def from_margin(
        cls,
        margin: NDArray[np.float64],
        labels: Labels,
        *,
        ids: tuple[str, ...] = (),
        keys: tuple[str, ...] = (),
        videos: tuple[str, ...] = (),
        positions: NDArray[np.int64] = NO_POSITIONS,
    ) -> "Predictions":
        """Return the predictions of a detector whose labels are the true ones.

        Args:
            margin: (N,) one logit per image, positive = fake.
            labels: (N,) 1 fake, 0 real.
            ids: as in the class, and so are the others.
            keys: see `ids`.
            videos: see `ids`.
            positions: see `ids`.
        """
        return cls(
            logits=margin[:, None],
            labels=labels,
            true_labels=labels,
            ids=ids,
            keys=keys,
            videos=videos,
            positions=positions,
        )

    def with_margin(self, margin: NDArray[np.float64]) -> "Predictions":
        """Return the same samples with other logits of a detector, (N,)."""
        return replace(self, logits=margin[:, None])

    @property
    def margin(self) -> NDArray[np.float64]:
        """The logit of class 1 less that of class 0, (N,): positive = fake.

        Raises:
            ValueError: there are more than two classes.
        """
        if self.class_count != 2:
            raise ValueError(f"{self.class_count} classes have no margin")
        columns = self.logits.T
        margin = columns[0] if len(columns) == 1 else columns[1] - columns[0]
        return np.asarray(margin, np.float64)

    @property
    def class_count(self) -> int:
        """The number of classes, at least 2."""
        return max(2, int(self.logits.shape[1]))

    @property
    def class_logits(self) -> Logits:
        """One logit per class, (N, K) with K >= 2: 0 and z for a single logit z."""
        if self.logits.shape[1] > 1:
            return self.logits
        return np.concatenate([np.zeros_like(self.logits), self.logits], axis=1)

    @property
    def predicted_classes(self) -> NDArray[np.intp]:
        """The predicted class of each sample, (N,); a margin of exactly 0 is class 0."""
        called: NDArray[np.intp] = self.class_logits.argmax(1)
        return called

    @property
    def right_classes(self) -> NDArray[np.int64]:
        """The right class of each sample, (N,): the true label, or `labels` where it is unknown."""
        right = np.where(self.true_labels == UNKNOWN, self.labels, self.true_labels)
        return right.astype(np.int64, copy=False)

    def labels_of(self, which: "Label") -> Labels:
        """Return labels of one kind, (N,)."""
        return self.labels if which == "trained" else self.true_labels

    def accuracy(self, which: "Label") -> float | None:
        """Return the fraction of right predictions, in [0, 1]. None if no label is known."""
        labels = self.labels_of(which)
        labelled = labels != UNKNOWN
        if not labelled.any():
            return None
        return float(np.mean(self.predicted_classes[labelled] == labels[labelled]))

    def balanced_accuracy(self, which: "Label") -> float:
        """Return the mean over the existing classes of the fraction of right predictions, in [0, 1]."""
        labels = self.labels_of(which)
        right = self.predicted_classes == labels
        return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))

    def log_probabilities(self) -> NDArray[np.float64]:
        """Return logarithms of the softmax, (N, K) with K >= 2."""
        return log_softmax(self.class_logits)

    def losses(self, labels: Labels) -> NDArray[np.float64]:
        """Return the cross entropy of each prediction with its label: (N,)."""
        values: NDArray[np.float64] = -self.log_probabilities()[np.arange(len(labels)), labels]
        return values

    def loss(self, labels: Labels) -> float:
        """Return the mean cross entropy with labels (N,)."""
        return float(self.losses(labels).mean())

    def rows(self, selection: NDArray[np.bool_] | NDArray[np.intp]) -> "Predictions":
        """Return the rows where `selection` (N,) holds, or those of such numbers, in that order."""
        at = np.arange(len(self))[selection]
        places = at.tolist()

        def pick(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(names[row] for row in places) if names else ()

        labels = self.labels[at]
        return Predictions(
            logits=self.logits[at],
            labels=labels,
            true_labels=labels if self.true_labels is self.labels else self.true_labels[at],
            ids=pick(self.ids),
            keys=pick(self.keys),
            videos=pick(self.videos),
            positions=self.positions[at] if len(self.positions) else self.positions,
        )

    @property
    def names_images(self) -> bool:
        """Whether the rows name their images; those of old files do not."""
        return not any(map(_NUMBERED.fullmatch, self.ids))

    @property
    def subsets(self) -> tuple[str, ...]:
        """The folder of each key: "StyleGAN2/conf-f-psi-1", or its class if there is no folder.

        For a frame, the folder with its video, since a dataset may have thousands of videos.
        """
        flat = ("realFlat", "fakeFlat")
        folders = [key.rpartition("/")[0] for key in self.keys]
        if self.videos:
            folders = [
                folder.rpartition("/")[0] if video else folder
                for folder, video in zip(folders, self.videos, strict=True)
            ]
        return tuple(
            folder or flat[label]
            for folder, label in zip(folders, self.labels.tolist(), strict=True)
        )

    @property
    def modifiers(self) -> tuple[str, ...]:
        """The modifier of each path, by `modifier_of_path`."""
        return tuple(map(modifier_of_path, self.ids))


def modifier_of_path(path: str) -> str:
    """Return the modifier of a path below a data root; "" where it has none.

    What lies above Real/ or Fake/ is the folder of a modifier; one that is none of the
    laboratory's is a person's own, and is its own name.
    """
    parts = path.split("/")
    for at, part in enumerate(parts[:-1]):
        if part.casefold() in _CLASSES:
            folder = "/".join(parts[:at]) or "."
            return _BY_FOLDER.get(folder, folder)
    return ""


def merge(tables: Iterable[Predictions]) -> Predictions:
    """Return all rows of detectors' tables as one table; an image of two tables counts once.

    Raises:
        DataError: an image is real in one table and fake in another.
    """
    listed = list(tables)
    first: dict[str, int] = {}
    for at, path in enumerate(path for table in listed for path in table.ids):
        first.setdefault(path, at)
    videos = _join(listed, lambda table: table.videos or ("",) * len(table))
    every = Predictions.from_margin(
        np.concatenate([np.zeros(0), *(table.margin for table in listed)]),
        np.concatenate([np.zeros(0, np.int8), *(table.labels for table in listed)]),
        ids=_join(listed, lambda table: table.ids),
        keys=_join(listed, lambda table: table.keys),
        videos=videos if any(videos) else (),
    )
    if len(first) == len(every):
        return every
    other = every.labels != every.labels[[first[path] for path in every.ids]]
    if other.any():
        path = every.ids[int(other.argmax())]
        raise DataError(
            f"{path} is real in one score table and fake in another. Name tables of the same labels."
        )
    return every.rows(np.array([*first.values()], np.intp))


def _join(
    tables: Iterable[Predictions], column: Callable[[Predictions], tuple[str, ...]]
) -> tuple[str, ...]:
    return tuple(text for table in tables for text in column(table))
