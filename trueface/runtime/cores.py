"""Cores for work beside that of the network, such as loading images."""

from launcher.api import core_share


def spare_cores(computing: int) -> tuple[int, int]:
    """Return the numbers of cores that a process can use for other work: its own, and free ones.

    Args:
        computing: cores that are busy with the network.
    """
    share = core_share()
    own = max(0, share.reserved - computing)
    return own, max(0, share.usable - computing - own)
