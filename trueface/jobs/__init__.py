"""The kinds of jobs and their entry functions: from a `Job` to files and numbers, glue and nothing else.

Start reading at `kinds`, then `training.train`.
"""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trueface.jobs.poisoning import poison as poison
    from trueface.jobs.previewing import preview as preview
    from trueface.jobs.sampling import sample as sample
    from trueface.jobs.testing import test as test
    from trueface.jobs.training import train as train
    from trueface.jobs.unlearning import unlearn as unlearn

# The module of each entry function; jobs that an earlier version queued name `trueface.jobs:train`.
ENTRIES: Mapping[str, str] = MappingProxyType(
    {
        "poison": "poisoning",
        "preview": "previewing",
        "sample": "sampling",
        "test": "testing",
        "train": "training",
        "unlearn": "unlearning",
    }
)


def __getattr__(name: str) -> Any:
    """Import an entry function when it is first asked for."""
    if name not in ENTRIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"trueface.jobs.{ENTRIES[name]}"), name)
