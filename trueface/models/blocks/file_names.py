"""Names of tensors in published files that differ from those of a network."""

from collections.abc import Mapping

from torch import Tensor


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
