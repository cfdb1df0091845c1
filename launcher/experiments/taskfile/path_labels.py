"""Short names of swept paths: the last parts in which the paths of a sweep differ."""

from launcher.experiments.taskfile.matrix import Sweep, value_label
from launcher.experiments.taskfile.nodes import GivenSetting, ScalarNode, plain_value
from launcher.experiments.taskfile.path_names import short_path_names


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


def _path_of(bundle: tuple[GivenSetting, ...]) -> str:
    """Return the text of a value without a label that can only be a path; '' for another value."""
    match bundle:
        case (GivenSetting(label=None, node=ScalarNode(text=text)),) if "/" in text:
            return text
    return ""
