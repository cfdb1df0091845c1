"""A step of a plan: one job before its files are known."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from launcher.errors import Place
from launcher.job_options.request import JobRequest
from launcher.kind_interface import Kind, Role
from launcher.system.files import Json
from launcher.taskfile.entries import FREE, Follows
from launcher.taskfile.settings import Settled

SCORING = frozenset({Role.TEST, Role.BENCHMARK})  # they begin with a model, and make none


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One job before its files are known."""

    kind: Kind
    name: str
    place: Place
    settings: Settled
    request: JobRequest
    model: str | None = None
    base: str | None = None
    data: str | None = None
    images: str | None = None
    follows: Follows = FREE
    condition: str = ""  # of a test, see `launcher.kind_interface`


def with_values(kind: Kind, settled: Settled, values: Mapping[str, Json]) -> Settled:
    """Return settings of which some values are those that a plan found out.

    Args:
        kind: whose settings.
        settled: as the task file gives them.
        values: that take the place of those of the file.
    """
    if not values:
        return settled
    whole = {**settled.values, **values}
    decisive = kind.settings.decisive(whole)
    return replace(settled, values=whole, text=json.dumps(decisive, sort_keys=True))
