"""Short names of swept paths: the last parts in which the paths of a sweep differ."""

import re
from collections.abc import Sequence

from launcher.ids import is_variant_value
from launcher.taskfile.matrix import Sweep, value_label
from launcher.taskfile.nodes import GivenSetting, ScalarNode, plain_value

_OTHER_CHARACTERS = re.compile(r"[^A-Za-z0-9_.+-]+")


def label_paths(sweep: Sweep) -> Sweep:
    """Return the sweep of a name with a label for each value that is a path; jobs are named by the labels.

    `data/a.csv` gets the label `a.csv`; `a/x.csv` and `b/x.csv` get `a-x.csv` and `b-x.csv`. A path that cannot be
    shortened like this gets no label.
    """
    paths = [_path_of(bundle) for bundle in sweep]
    if not any(paths):
        return sweep
    others = {
        value_label(bundle[0], plain_value(bundle[0].node))
        for bundle, path in zip(sweep, paths, strict=True)
        if not path
    }
    labels = short_path_names([path for path in paths if path], others)
    return tuple(
        (bundle[0]._replace(label=labels[path]),) if path in labels else bundle
        for bundle, path in zip(sweep, paths, strict=True)
    )


def short_path_names(paths: Sequence[str], taken: set[str]) -> dict[str, str]:
    """Return path → its last parts, as many for each as tell them apart; {} if no number of parts does.

    Args:
        paths: Distinct paths.
        taken: Names that none of them may get.
    """
    parts = {path: [part for part in path.split("/") if part not in {"", "."}] for path in paths}
    for count in range(1, max(map(len, parts.values()), default=0) + 1):
        names = {
            path: _OTHER_CHARACTERS.sub("-", "-".join(part[-count:]))
            for path, part in parts.items()
        }
        distinct = {*names.values()}
        if all(map(is_variant_value, distinct)) and len(distinct - taken) == len(names):
            return names
    return {}


def _path_of(bundle: tuple[GivenSetting, ...]) -> str:
    """Return the text of a value without a label that can only be a path; '' for another value."""
    match bundle:
        case (GivenSetting(label=None, node=ScalarNode(text=text)),) if "/" in text:
            return text
    return ""
