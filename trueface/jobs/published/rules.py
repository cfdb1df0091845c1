"""The rules of the job type `checkpoint`: no torch here. See `trueface.jobs.rule`."""

from collections.abc import Mapping, Sequence

from trueface.jobs.rule import PlanCheck, Rule
from trueface.jobs.rules import refuse_base, refuse_flipped_labels

RULES: Mapping[str, Sequence[Rule | PlanCheck]] = {
    "checkpoint": (refuse_flipped_labels, refuse_base),
}
