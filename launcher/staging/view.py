"""How a stage is made: what the run's folder holds appears in it, and what is written there stays there.

A folder into which the job writes is a real one in the stage; every other name is a link to what was
accepted. A file is replaced by a rename, so the link makes place for the job's own file, and what was
accepted is untouched. Who opens a file to write into it, without a new name first, writes through the link.
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.staging.inheritance import inherit
from launcher.staging.left_behind import take
from launcher.staging.links import Links, target_of, write_links
from launcher.staging.stages import (
    LEFT,
    MAKING,
    NEW,
    STAGES,
    VIEWS,
    Stage,
    new_stage,
    view_of,
)
from launcher.system.paths import Attempt

DEPTH = 1  # of the folders in a model's folder that a job may write into without saying so
_ALL = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a job says of where it writes; names are relative to the run's folder."""

    models: frozenset[str] = frozenset()  # folders of models
    outputs: frozenset[str] = frozenset()
    anew: str = ""  # a folder; outputs in it that are folders are made anew, never added to

    @property
    def entries(self) -> frozenset[str]:
        """The first parts of these names."""
        return self.models | {name.partition("/")[0] for name in self.outputs}


def inside(run_folder: Path, outputs: Iterable[str]) -> frozenset[str]:
    """Return which outputs lie in the run's folder, relative to it."""
    above = f"{run_folder}/"
    return frozenset(path[len(above) :] for path in outputs if path.startswith(above))


def make(
    attempt: Attempt, run_folder: Path, wanted: Wanted, *, job: int, number: int, left: str = ""
) -> str:
    """Make the stage of an attempt; return the path by which the attempt reaches it.

    Args:
        attempt: its folder gets the link.
        run_folder: of what was accepted.
        wanted: where the job writes.
        job: its number.
        number: of the attempt.
        left: name of the stage of an earlier attempt, from which this one goes on; "": none.

    Raises:
        OSError: the disk is full, or the run's folder cannot be written.
    """
    stage, view = new_stage(run_folder, job, number), view_of(attempt, run_folder)
    # first of all: by the link a stage is known that is not whole because its worker was killed
    _link(f"{run_folder}/{STAGES}/{stage.name}/{NEW}", attempt, view)
    making = stage.named(MAKING)
    try:
        _make_folder(making)
    except OSError:
        os.unlink(view)  # noqa: PTH108  # likewise
        raise
    links = Links()
    ways = frozenset(above for name in wanted.outputs for above in _above(name))
    with contextlib.suppress(FileNotFoundError):  # nothing was accepted yet
        _fill(making, "", wanted, ways, links, depth=0)
    if left and take(Stage(run_folder, left)):
        inherit(Stage(run_folder, left, LEFT), making, links)
    write_links(making, links)
    os.rename(making.folder, stage.folder)  # noqa: PTH104  # done for every attempt
    return view


def _link(target: str, attempt: Attempt, view: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(attempt.text(VIEWS), 0o700)  # noqa: PTH102  # done for every attempt
    os.symlink(target, view)  # noqa: PTH211  # likewise


def _make_folder(stage: Stage) -> None:
    """Make a stage's folder; that of all stages may be removed at any time by who finds it empty."""
    missing = [f"{stage.run_folder}/{STAGES}", str(stage.run_folder), str(stage.run_folder.parent)]
    while True:
        try:
            os.mkdir(stage.folder)  # noqa: PTH102  # done for every attempt
        except FileNotFoundError:
            _make_first(missing)
        else:
            os.mkdir(stage.new)  # noqa: PTH102  # likewise
            return


def _make_first(folders: Sequence[str]) -> None:
    """Make the first of some folders, with those of the others that it is in; the project is there."""
    folder, *above = folders
    try:
        os.mkdir(folder)  # noqa: PTH102  # as above
    except FileExistsError:
        return
    except FileNotFoundError:
        if not above:
            raise
        _make_first(above)


def _above(name: str) -> Sequence[str]:
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _fill(
    stage: Stage, within: str, wanted: Wanted, ways: frozenset[str], links: Links, *, depth: int
) -> None:
    """Make a folder of a stage look like the accepted one.

    Args:
        stage: which one.
        within: name of the folder with "/" behind it; "": the run's.
        wanted: where the job writes.
        ways: folders above its outputs.
        links: gets what was made.
        depth: down to which the folders in it are real ones, too.
    """
    with os.scandir(f"{stage.run_folder}/{within}") as entries:
        for entry in entries:
            name = f"{within}{entry.name}"
            if name == STAGES:
                continue
            is_model, is_output = name in wanted.models, name in wanted.outputs
            real = depth > 0 or is_model or is_output or name in ways
            # a folder on another disk is a link; it is written into as any other
            if not real or not entry.is_dir(follow_symlinks=is_model or is_output or name in ways):
                os.symlink(target_of(name), f"{stage.new}/{name}")  # noqa: PTH211  # many
                links.links.append(name)
                continue
            if is_output and wanted.anew and name.startswith(f"{wanted.anew}/"):
                links.replaced.append(name)
                continue
            os.mkdir(f"{stage.new}/{name}")  # noqa: PTH102  # likewise
            links.folders.append(name)
            deeper = DEPTH if is_model else _ALL if is_output else depth - 1
            _fill(stage, f"{name}/", wanted, ways, links, depth=deeper)
