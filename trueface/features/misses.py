"""Why features are computed though some of the same body lie in the store: one line for the log."""

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from trueface.features import shard
from trueface.runtime.files import Json

MOST_LOOKED_AT = 16  # headers of shards; a guess is enough for a log


def nearest_difference(root: Path, identity: Mapping[str, Json]) -> str:
    """Return in what the nearest stored features differ, as "torch 2.1 instead of 2.0", or "".

    Args:
        root: of the store.
        identity: of features that are not there.
    """
    wanted = _flat(identity)
    prefix = str(identity["body_sha256"])[: shard.BODY_DIGITS]
    best: list[str] = []
    for path in islice(root.glob(f"{prefix}-*{shard.ENDING}"), MOST_LOOKED_AT):
        stored = _flat(shard.header_of(path).get("identity"))
        # features of a test are no better or worse than those of a training
        if stored.keys() == wanted.keys() and stored["view"] == wanted["view"]:
            differences = [
                f"{key} {_shown(wanted[key])} instead of {_shown(stored[key])}"
                for key in wanted
                if wanted[key] != stored[key]
            ]
            if not best or len(differences) < len(best):
                best = differences
    return ", ".join(best)


def _flat(identity: Mapping[str, Json] | Json) -> dict[str, Json]:
    if not isinstance(identity, Mapping):
        return {}
    transform = identity.get("transform")
    return {**identity, **(transform if isinstance(transform, dict) else {}), "transform": None}


def _shown(value: Json) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:16]}…"
