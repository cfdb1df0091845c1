"""Creation of a staging folder: the folders into which a job writes, with their accepted contents.

They are real folders, and the names in them are links to accepted outputs. A file is replaced by a rename, so the
job's own file replaces the link, and the accepted file is unchanged. A program that opens a file to write into it,
without a new name first, writes through the link.
"""

import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from launcher.queue.home.paths import Attempt
from launcher.queue.staging.earlier_stages import detach_stage
from launcher.queue.staging.inheritance import copy_earlier_stage
from launcher.queue.staging.stage_links import StagingLinks, link_target, write_links
from launcher.queue.staging.stages import (
    ACCEPTED_LINK,
    LEFT_SUFFIX,
    MAKING_SUFFIX,
    STAGES_FOLDER,
    VIEW_LINK,
    StagingFolder,
    new_stage,
)

MODEL_DEPTH = 1  # folder levels in a model's folder that a job may write into without saying so
_ALL = 1 << 30
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT}


class NotWritable(Exception):
    """The run's folder is not writable, or there is no project, so no staging folder is needed."""


class DeclaredOutputs(NamedTuple):
    """Outputs that a job declares. Names are relative to the run's folder."""

    models: frozenset[str] = frozenset()  # folders of models
    outputs: frozenset[str] = frozenset()
    replaced_below: str = (
        ""  # a folder; outputs in it that are folders are created again, never extended
    )
    # an output under its name in the staging folder, then under its final name; empty if these are equal
    renamed: tuple[str, ...] = ()

    @property
    def entries(self) -> frozenset[str]:
        """The first parts of these names."""
        return self.models | {name.partition("/")[0] for name in self.outputs}


def outputs_inside(run_folder: Path, outputs: Iterable[str]) -> frozenset[str]:
    """Return the outputs that are inside the run's folder, relative to it."""
    above = f"{run_folder}/"
    return frozenset(path[len(above) :] for path in outputs if path.startswith(above))


class RunFolderView(NamedTuple):
    """Paths of an attempt to its run's folder. Both break when the staging folder is taken from it."""

    writable: Path  # folder where the attempt writes, laid out as the run's folder
    accepted: Path  # the run's folder


def make_stage(
    attempt: Attempt,
    run_folder: Path,
    declared_outputs: DeclaredOutputs,
    *,
    job: int,
    attempt_number: int,
    earlier: str = "",
) -> RunFolderView:
    """Make the staging folder of an attempt. Return the paths by which the attempt reaches it.

    Args:
        attempt: its folder gets the link.
        run_folder: the run's folder, with the accepted outputs.
        declared_outputs: where the job writes.
        job: its number.
        attempt_number: number of the attempt.
        earlier: name of the staging folder of an earlier attempt, from which this one continues. "" if none.

    Raises:
        NotWritable: no staging folder can be made there by anybody.
        OSError: the disk is full, or the staging folder was taken away as the attempt was abandoned.
    """
    stage, view = new_stage(run_folder, job, attempt_number), attempt.path_text(VIEW_LINK)
    # first: if the worker is killed, the link identifies the incomplete staging folder
    os.symlink(stage.folder, view)  # noqa: PTH211  # done for every attempt
    making = stage.with_suffix(MAKING_SUFFIX)
    try:
        _make_folder(making)
    except OSError as error:
        os.unlink(view)  # noqa: PTH108  # likewise
        if error.errno in _READ_ONLY:
            raise NotWritable(str(error)) from error
        raise
    os.mkdir(making.output_folder)  # noqa: PTH102  # likewise
    os.symlink("../..", f"{making.folder}/{ACCEPTED_LINK}")  # noqa: PTH211  # likewise
    links = StagingLinks(renamed=[*declared_outputs.renamed])
    filling = _ViewBuilder(making, declared_outputs, links)
    for name in declared_outputs.entries:
        filling.add_name(name)
    if earlier and detach_stage(StagingFolder(run_folder, earlier)):
        copy_earlier_stage(StagingFolder(run_folder, earlier, LEFT_SUFFIX), making, links)
    write_links(making, links)
    os.rename(making.folder, stage.folder)  # noqa: PTH104  # likewise
    return RunFolderView(writable=Path(view) / run_folder.name, accepted=Path(view) / ACCEPTED_LINK)


def _make_folder(stage: StagingFolder) -> None:
    """Make a staging folder. Another process may remove its parent at any time if that is empty."""
    missing = [
        f"{stage.run_folder}/{STAGES_FOLDER}",
        str(stage.run_folder),
        str(stage.run_folder.parent),
    ]
    while True:
        try:
            os.mkdir(stage.folder)  # noqa: PTH102  # done for every attempt
        except FileNotFoundError:
            _make_with_parents(missing)
        else:
            return


def _make_with_parents(folders: Sequence[str]) -> None:
    """Make the first of some folders, with those of the others that it is in; the project is there."""
    folder, *above = folders
    try:
        os.mkdir(folder)  # noqa: PTH102  # as above
    except FileExistsError:
        return
    except FileNotFoundError:
        if not above:
            raise
        _make_with_parents(above)


class _ViewBuilder:
    """Fills folders of a staging folder with links, so that they look like the accepted ones."""

    def __init__(
        self, stage: StagingFolder, declared_outputs: DeclaredOutputs, links: StagingLinks
    ) -> None:
        self._stage, self._declared, self._links = stage, declared_outputs, links
        # folders above outputs → names in them to these
        self._output_paths: dict[str, set[str]] = {}
        for name in declared_outputs.outputs:
            while within := name.rpartition("/")[0]:
                self._output_paths.setdefault(within, set()).add(name)
                name = within  # up and up

    def add_name(self, name: str, levels: int = 0, *, is_listed: bool = False) -> None:
        """Make a name as it was accepted before, if it was.

        Args:
            name: path into or below which the job writes, or path of a folder in a listed folder.
            levels: number of levels of folders, beginning with this one, in which all names appear. In deeper
                folders, only the paths to outputs appear.
            is_listed: whether all names in its parent folder appear.
        """
        wanted, path = self._declared, f"{self._stage.run_folder}/{name}"
        if not os.path.isdir(path):  # noqa: PTH112  # many names; a link to a folder is one, too
            if os.path.lexists(path):
                self._link(name)
            return
        if name in wanted.outputs:
            if name.startswith(f"{wanted.replaced_below}/"):
                self._links.replaced.append(name)
                return
            levels = _ALL
        elif name in wanted.models:
            levels = 1 + MODEL_DEPTH
        elif is_listed and name in self._output_paths:
            levels = max(levels, 1)
        if levels:
            self._list(name, levels - 1)
        elif is_listed:
            self._link(name)
        else:
            self._make_folder(name)
            for way in self._output_paths[name]:
                self.add_name(way)

    def _list(self, folder: str, levels: int) -> None:
        self._make_folder(folder)
        with os.scandir(f"{self._stage.run_folder}/{folder}") as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}"
                written = name in self._output_paths or name in self._declared.outputs
                if written or entry.is_dir(follow_symlinks=False):
                    self.add_name(name, levels, is_listed=True)
                else:
                    self._link(name)

    def _make_folder(self, name: str) -> None:
        os.mkdir(f"{self._stage.output_folder}/{name}")  # noqa: PTH102  # likewise
        self._links.folders.append(name)

    def _link(self, name: str) -> None:
        os.symlink(link_target(name), f"{self._stage.output_folder}/{name}")  # noqa: PTH211  # likewise
        self._links.links.append(name)
