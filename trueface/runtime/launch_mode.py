"""How the steps of a training were launched, as its result records it. Nothing of torch is imported."""

from collections.abc import Mapping

from trueface.runtime.files import Json

# keys of a result; results of trainings with `accelerate: off` and of earlier versions have neither
MODE, REASON = "accelerate", "accelerate_reason"
OFF = "off"


def read_launch_mode(summary: Mapping[str, Json]) -> str:
    """Return the mode in the summary of a model: off or graph."""
    return str(summary.get(MODE, OFF))
