"""Machine unlearning for any torch classifier: methods by name, and `run`, which applies one.

Start reading at `api.run`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trueface.unlearning.registry import METHODS as METHODS

if TYPE_CHECKING:
    from trueface.data.examples import Examples as Examples
    from trueface.data.examples import examples as examples
    from trueface.data.examples import examples_of as examples_of
    from trueface.unlearning.api import run as run

_HEAVY = {
    "run": "trueface.unlearning.api",
    "Examples": "trueface.data.examples",
    "examples": "trueface.data.examples",
    "examples_of": "trueface.data.examples",
}


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(import_module(_HEAVY[name]), name)
    raise AttributeError(name)
