"""Names of tensors in published files that differ from those of a network."""

import logging
from collections.abc import Collection, Mapping

from torch import Tensor

log = logging.getLogger(__name__)


def without_unused(state: Mapping[str, Tensor], unused: Collection[str]) -> dict[str, Tensor]:
    """Return a state without the tensors of these names, which are logged."""
    found = [name for name in unused if name in state]
    if found:
        log.info("unused=%s reason=the network of the file has them, but its logits do not", found)
    return {name: tensor for name, tensor in state.items() if name not in found}


def with_first_names(state: Mapping[str, Tensor], renamed: Mapping[str, str]) -> dict[str, Tensor]:
    """Return a state whose names begin with another module.

    Args:
        state: tensors by the names in a file.
        renamed: the network's module by that in the file, both dotted.
    """
    return {_renamed(name, renamed): tensor for name, tensor in state.items()}


def _renamed(name: str, renamed: Mapping[str, str]) -> str:
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        if module := renamed.get(".".join(parts[:count])):
            return ".".join([module, *parts[count:]])
    return name
