"""The rules of the job type `checkpoint`: no torch here. See `trueface.jobs.rule`."""

from collections.abc import Mapping, Sequence

from launcher.api import parse_model
from trueface.jobs.rule import Check, Rule

RULES: Mapping[str, Sequence[Check]] = {
    "checkpoint": (
        Rule(
            lambda draft: parse_model(draft.model or "").last.poison,
            "{model}: {kind} does not support flipped labels. Leave out '%' in the ID.",
        ),
        Rule(
            lambda draft: draft.base is not None,
            "{model}: {kind} does not start from another model. Write model: null",
        ),
    ),
}
