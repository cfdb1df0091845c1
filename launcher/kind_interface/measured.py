"""What a kind says besides of the numbers that its jobs leave: their epochs, and which are better low."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class HasEpochs(Protocol):
    """What a `Kind` says besides, if its jobs make models in epochs and leave a history of them."""

    @property
    def epochs(self) -> str:
        """`module:function` that returns the epochs of models; '' where there are none.

        It is called with the folder of a run and the IDs of models, and returns a record for each
        epoch: `model`, `epoch` (from 1), and numbers by name, None where one is not known. What is
        not there yet, or cannot be read, is left out. Its module must be quick to import.
        """


@runtime_checkable
class RanksMetrics(Protocol):
    """What a `Kind` says besides, if some of the metrics in its results are better low."""

    @property
    def lower_is_better(self) -> frozenset[str]:
        """The names of these metrics; all others of its results are better high."""
