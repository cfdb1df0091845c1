"""Whether the headers of tested image files or of their videos alone reveal the class, so that scores mean little."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trueface.data.image_headers import DECIDING, Shortcut
from trueface.data.video_headers import shortcuts_of
from trueface.data.video_traits import FILE
from trueface.evaluation.finished_tests import GroupedTests

MARK = "confounded"  # as the benchmark marks such rows


@dataclass(kw_only=True)
class TestedFiles:
    """The image files of a run's tests; the headers of each set of images are read once.

    Args:
        project: the folder that paths in settings are relative to.
    """

    project: Path
    absent: set[str] = field(default_factory=set)  # a file of each set of images that is not there
    video_records: set[Path] = field(default_factory=set)  # traits of videos that were looked up
    _known: dict[tuple[str, tuple[str, ...]], Shortcut | None] = field(default_factory=dict)

    def confound(self, tests: GroupedTests) -> Shortcut | None:
        """Return the property of the files that reveals their class best, if it decides nearly all.

        One that shapes the pixels comes before all others. None also if the files are gone, or the scores do not name them.
        """
        scores, root = tests.scores, tests.tests[0].root
        if not (root and scores.names_images):
            return None
        key = (root, scores.ids)  # models are tested on the same images
        if key not in self._known:
            root_path = self.project / Path(root).expanduser()
            labels = zip(scores.ids, scores.labels.tolist(), strict=True)
            files = {f"{root_path}/{path}": label for path, label in labels}
            self._known[key] = best_confound(files, root_path)
            if scores.videos:
                self.video_records.add(root_path / FILE)
            first = next(iter(files), None)
            if first is not None and not Path(first).exists():
                self.absent.add(first)
        return self._known[key]


def best_confound(labels: Mapping[str, int], root: Path) -> Shortcut | None:
    """Return the property that reveals the class of files, those that shape the pixels first. None if none decides."""
    found = (each for each in shortcuts_of(labels, root) if each.accuracy >= DECIDING)
    return max(found, key=lambda each: (each.shapes_pixels, each.accuracy), default=None)
