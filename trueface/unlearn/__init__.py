"""Machine unlearning for any torch classifier: methods by name, and `run`, which applies one.

    from trueface import unlearn
    done = unlearn.run("scrub", model, forget=…, retain=…, validation=…)

Light: naming a method imports none of them; see `trueface.unlearn.method.run`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trueface.unlearn.table import METHODS as METHODS

if TYPE_CHECKING:
    from trueface.unlearn.method import run as run
    from trueface.unlearn.samples import Examples as Examples
    from trueface.unlearn.samples import examples as examples
    from trueface.unlearn.samples import examples_of as examples_of

_HEAVY = {"run": "method", "Examples": "samples", "examples": "samples", "examples_of": "samples"}


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(import_module(f"trueface.unlearn.{_HEAVY[name]}"), name)
    raise AttributeError(name)
