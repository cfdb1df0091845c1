"""Recovery curves of teachers and of models that never saw the concept: made once, and kept beside the model.

Every method of a study has the same floor and ceiling. A curve is found again by all that it follows from.
"""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from trueface.erasing.measures.recovery import Curve
from trueface.runtime.files import Json, read_json, write_json

SCHEMA = 1  # rises when the attack changes

log = logging.getLogger(__name__)


def kept_curve(
    folder: Path | None, follows_from: tuple[object, ...], make: Callable[[], Curve]
) -> Curve:
    """Return a curve from a folder where it lies there already, else make and keep it.

    Args:
        folder: of the model; None: nothing is kept.
        follows_from: all that the curve is a function of; they tell themselves apart by `repr`.
        make: makes it.
    """
    if folder is None:
        return make()
    digest = hashlib.sha256(repr((SCHEMA, follows_from)).encode()).hexdigest()[:20]
    path = folder / "cache" / f"recovery-{digest}.json"
    kept = _read(read_json(path))
    if kept is not None:
        log.info("cache=recovery state=kept path=%s", path)
        return kept
    curve = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, _written(curve))
    return curve


def _written(curve: Curve) -> dict[str, Json]:
    return {
        "schema": SCHEMA,
        "images": list(curve.images),
        "steps": list(curve.steps),
        "rates": {start: [list(row) for row in rows] for start, rows in curve.rates.items()},
        "n": curve.n,
    }


def _read(facts: object) -> Curve | None:
    """Return the curve of a file; None where it is broken, or of another form."""
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
        return None
    try:
        return Curve(
            images=tuple(facts["images"]),
            steps=tuple(facts["steps"]),
            rates={
                start: tuple(tuple(row) for row in rows) for start, rows in facts["rates"].items()
            },
            n=int(facts["n"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
