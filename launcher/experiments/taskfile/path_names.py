"""Short names of paths: the last parts in which they differ."""

import re
from collections.abc import Sequence

from launcher.ids import is_variant_value

_OTHER_CHARACTERS = re.compile(r"[^A-Za-z0-9_.+-]+")


def short_path_names(paths: Sequence[str], taken_names: set[str]) -> dict[str, str]:
    """Return path → its last parts, as many for each as tell them apart; {} if no number of parts does.

    Args:
        paths: Distinct paths.
        taken_names: Names that no path may get.
    """
    parts = {path: [part for part in path.split("/") if part not in {"", "."}] for path in paths}
    for count in range(1, max(map(len, parts.values()), default=0) + 1):
        names = {
            path: _OTHER_CHARACTERS.sub("-", "-".join(part[-count:]))
            for path, part in parts.items()
        }
        distinct = {*names.values()}
        if all(map(is_variant_value, distinct)) and len(distinct - taken_names) == len(names):
            return names
    return {}
