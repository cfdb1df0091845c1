"""The options of a search, for command lines that may not have one: without imports."""

from typing import NamedTuple

# stored words
TPE, RANDOM, GRID, CMAES = "tpe", "random", "grid", "cmaes"
SAMPLERS = (TPE, RANDOM, GRID, CMAES)
MEDIAN, HYPERBAND, NONE = "median", "hyperband", "none"
PRUNERS = (MEDIAN, HYPERBAND, NONE)


class SearchWords(NamedTuple):
    """The options of a search, as a person gives them."""

    metrics: str
    trials: int | None = None
    parallel: int | None = None
    sampler: str = TPE
    pruner: str | None = None
    repeat: str | None = None
    seed: int = 0
    spelling: str = "--search {}"  # the metrics in a message
    defaults: frozenset[str] = frozenset()  # options of the configuration, which refuse nothing
