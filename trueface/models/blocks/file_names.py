"""Names of tensors in published files that differ from those of a network."""

from collections.abc import Mapping

from torch import Tensor


def rename_prefixes(state: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> dict[str, Tensor]:
    """Return a state whose names begin with another module.

    Args:
        state: tensors by the names in a file.
        prefixes: the network's module by that in the file, both dotted.
    """
    return {_rename_tensor(name, prefixes): tensor for name, tensor in state.items()}


def _rename_tensor(name: str, prefixes: Mapping[str, str]) -> str:
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        if module := prefixes.get(".".join(parts[:count])):
            return ".".join([module, *parts[count:]])
    return name
