"""Where stages lie, and how an attempt's folder names its own.

runs/<run>/.attempts/<job>-<number>-<random>/   a stage, on the file system of the results
    <run>/          what the attempt makes, laid out as the run's folder
    .accepted       a link to the run's folder
    .links.json     which names in it are links to what was accepted before; absent where none are
<attempt>/runs      a link to the stage: the only way in that a job is given

The name of a stage tells how far it is; each change is a single rename:

<name>.making     its worker builds it
<name>            its attempt runs
<name>.left       its attempt was given up, or did not end well: the next one goes on from it
<name>.accepted   its outcome is accepted: what it holds belongs into the run's folder

The link in the attempt's folder always means the first of these names. So it leads nowhere as soon as the
stage has another one, and a process that wakes later can write nothing through it. When all is moved the
link gets another name, and an attempt that has made nothing removes it: where it is, there is a stage.

The links of a stage to what was accepted before, and the record of them.

How a stage is made: the folders into which a job writes, as far as they were accepted.

They are real folders; the names in them are links to what was accepted. A file is replaced by a rename, so the link makes place for the job's own file, and what was
accepted is untouched. Who opens a file to write into it, without a new name first, writes through the link.

What the stage of an earlier attempt holds goes into that of the next one, which goes on from there.

Stages of attempts that did not end well: taken from them, kept for the next attempt, removed after it.
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from launcher.system.files import Json, read_json, write_json
from launcher.system.paths import Attempt, Home

STAGES = ".attempts"  # in a run's folder
RUN, RECORD = ".accepted", ".links.json"  # in a stage
VIEW = "runs"  # in an attempt's folder
MOVED = "runs.moved"  # what the link is called when all is in the run's folder
MAKING, LEFT, ACCEPTED = ".making", ".left", ".accepted"
_NAME = re.compile(r"\d{1,12}-\d{1,12}-[0-9a-f]{8}")


class Stage(NamedTuple):
    """A stage under one of its names; nothing says that it is there."""

    run_folder: Path  # of what was accepted
    name: str
    suffix: str = ""

    @property
    def folder(self) -> str:
        """Its path; a text, as this is done for every attempt and a Path costs 10 µs."""
        return f"{self.run_folder}/{STAGES}/{self.name}{self.suffix}"

    @property
    def new(self) -> str:
        """Where its attempt writes."""
        return f"{self.folder}/{self.run_folder.name}"

    @property
    def record(self) -> str:
        """The record of its links."""
        return f"{self.folder}/{RECORD}"

    def named(self, suffix: str) -> "Stage":
        """Return the same stage under another of its names."""
        return self._replace(suffix=suffix)


def new_stage(run_folder: Path, job: int, number: int) -> Stage:
    """Return a stage that no other attempt has: homes that share a project count alike."""
    return Stage(run_folder, f"{job}-{number}-{os.urandom(4).hex()}")


def stage_of(attempt: Attempt, run_folder: Path, view: str = VIEW) -> Stage | None:
    """Return the stage that an attempt was given, under the name that it has while the attempt runs.

    Args:
        attempt: of any node that shares the folder.
        run_folder: as it is called here.
        view: the name of the link.

    Returns None where it was given none.

    Raises:
        OSError: that cannot be found out now.
    """
    try:
        target = os.readlink(attempt.text(view))  # noqa: PTH115  # done for every attempt
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # it is no link
            return None
        raise
    above, name = ["", *target.split("/")][-2:]
    if above != STAGES or not _NAME.fullmatch(name):
        return None
    return Stage(run_folder, name)


def names_of(stage: Stage) -> Iterator[Stage]:
    """Return a stage under all its names."""
    for suffix in ("", LEFT, ACCEPTED, MAKING):
        yield stage.named(suffix)


def tidy(stage: Stage) -> None:
    """Remove the folder of a run's stages, where none is left."""
    with contextlib.suppress(OSError):
        os.rmdir(f"{stage.run_folder}/{STAGES}")  # noqa: PTH106  # done for every attempt


_UP = "../../.."  # from what an attempt makes to the folder of its run


@dataclass(slots=True)
class Links:
    """What a stage held when its attempt began; all names are relative to the run's folder."""

    links: list[str] = field(default_factory=list)  # to accepted files and folders
    folders: list[str] = field(default_factory=list)  # real ones, those above first
    # folders that the attempt makes anew: the accepted one makes place as a whole
    replaced: list[str] = field(default_factory=list)
    # found when the stage was sealed: what the attempt has deleted of the above
    gone: list[str] = field(default_factory=list)
    gone_folders: list[str] = field(default_factory=list)
    sealed: bool = False


_FIELDS = ("links", "folders", "replaced", "gone", "gone_folders")


def write_links(stage: Stage, links: Links) -> None:
    """Keep the record of a stage's links beside it, where there are any.

    Raises:
        OSError: the disk is full.
    """
    record: dict[str, Json] = {"schema": 1}
    record |= {name: [*names] for name in _FIELDS if (names := getattr(links, name))}
    record |= {"sealed": True} if links.sealed else {}
    if len(record) > 1:
        write_json(Path(stage.record), record, durable=False)


def read_links(stage: Stage) -> Links:
    """Return the record of a stage's links; names that lead out of the run's folder are left out."""
    record: Mapping[str, Json] = read_json(stage.record) or {}
    names = {name: [*_inside(record.get(name))] for name in _FIELDS}
    return Links(**names, sealed=record.get("sealed") is True)


def _inside(names: Json) -> Iterable[str]:
    for name in names if isinstance(names, list) else ():
        if isinstance(name, str) and not {"", ".", ".."} & {*name.split("/")}:
            yield name


def target_of(name: str) -> str:
    """Return what the link of a name leads to: short, and right under all names of the stage."""
    return f"{_UP}/{'../' * name.count('/')}{name}"


def is_ours(stage: Stage, name: str) -> bool:
    """Tell whether a name in a stage is still the link that was made for it.

    Raises:
        FileNotFoundError: the attempt has deleted it.
        NotADirectoryError: likewise, with the folder that it was in.
    """
    try:
        return os.readlink(f"{stage.new}/{name}") == target_of(name)  # noqa: PTH115  # many names
    except OSError as error:
        if error.errno == errno.EINVAL:  # a file of its own has taken the place
            return False
        raise


def gone_of(stage: Stage, links: Links) -> list[str]:
    """Return which names the attempt has deleted that were links to something accepted."""
    gone = []
    for name in links.links:
        try:
            is_ours(stage, name)
        except (FileNotFoundError, NotADirectoryError):
            gone.append(name)
    return gone


_HALF = (".", ".tmp")  # how names begin and end of what was being written


def inherit(left: Stage, stage: Stage, links: Links) -> None:
    """Give a stage what an earlier attempt had made and deleted when it was given up.

    Files get a second name. A process of that attempt that still lives replaces names in its own
    stage only, so it changes nothing here.

    Args:
        left: the stage of the earlier attempt, taken from it; where it is gone, nothing is inherited.
        stage: of the next one, as it was made.
        links: its links; what the earlier attempt has deleted stays among them.

    Raises:
        OSError: the disk is full.
    """
    before = read_links(left)
    ours = {*before.links}
    _copy_names(left, stage, "", ours)
    for name in before.gone if before.sealed else gone_of(left, before):
        if _is_link(stage, name):
            os.unlink(f"{stage.new}/{name}")  # noqa: PTH108  # as in the rest of this package
    links.replaced = [*dict.fromkeys((*links.replaced, *before.replaced))]


def _copy_names(left: Stage, stage: Stage, within: str, ours: set[str]) -> None:
    try:
        entries = [*os.scandir(f"{left.new}/{within}")]
    except FileNotFoundError:
        return
    for entry in entries:
        name = f"{within}{entry.name}"
        here = f"{stage.new}/{name}"
        if entry.name.startswith(_HALF[0]) and entry.name.endswith(_HALF[1]):
            continue
        if entry.is_dir(follow_symlinks=False):
            if os.path.islink(here):  # noqa: PTH114  # likewise
                os.unlink(here)  # noqa: PTH108  # likewise
            with contextlib.suppress(FileExistsError):
                os.mkdir(here)  # noqa: PTH102  # likewise
            _copy_names(left, stage, f"{name}/", ours)
        elif not (entry.is_symlink() and name in ours):
            with contextlib.suppress(FileNotFoundError):  # it lives after all, and replaces it now
                _copy_name(entry.path, here)


def _copy_name(there: str, here: str) -> None:
    """Give a file a second name, instead of the link that may be in its place."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(here)  # noqa: PTH108  # likewise
    try:
        os.link(there, here, follow_symlinks=False)  # likewise
    except FileNotFoundError:
        raise
    except OSError:  # a file system without second names
        shutil.copy2(there, here, follow_symlinks=False)


def _is_link(stage: Stage, name: str) -> bool:
    try:
        return is_ours(stage, name)
    except (FileNotFoundError, NotADirectoryError):
        return False


def take_left(home: Home, job: int, number: int, run_folder: Path) -> str:
    """Take their stages from the attempts before the next one; return from which of them that one goes on.

    After this call no process of theirs can change what it will find. To be called when all of
    them have ended, or were given up.

    Args:
        home: the queue's.
        job: its number.
        number: of the next attempt.
        run_folder: of the job.

    Returns the name of a stage; "" where there is none.
    """
    for stage in _earlier(home, job, number, run_folder):
        with contextlib.suppress(OSError):  # its next attempt tries it again, and fails
            if not take(stage):
                # not begun, empty, or accepted, and then those before it are gone
                shutil.rmtree(stage.named(MAKING).folder, ignore_errors=True)
                continue
        return stage.name
    return ""


def take(stage: Stage) -> bool:
    """Take a stage from its attempt; return False where there is none.

    Raises:
        OSError: that is not possible now.
    """
    left = stage.named(LEFT)
    try:
        os.rename(stage.folder, left.folder)  # noqa: PTH104  # as in the rest of this package
    except FileNotFoundError:
        return os.path.isdir(left.folder)  # noqa: PTH112  # likewise
    return True


def left_by(attempt: Attempt, run_folder: Path) -> str:
    """Return where it lies what an attempt has made and nobody has accepted; "" where there is nothing."""
    stage = stage_of(attempt, run_folder)
    for named in () if stage is None else names_of(stage):
        with contextlib.suppress(FileNotFoundError):
            if os.listdir(named.new):  # noqa: PTH208  # likewise
                return named.new
    return ""


def remove_earlier(home: Home, job: int, number: int, run_folder: Path) -> None:
    """Remove the stages of the attempts before one that is accepted."""
    for stage in _earlier(home, job, number, run_folder):
        remove(stage)


def remove_of(attempt: Attempt, run_folder: Path) -> None:
    """Remove the stage of an attempt that is to be forgotten."""
    for view in (VIEW, MOVED):
        stage = stage_of(attempt, run_folder, view)
        if stage is not None:
            remove(stage)


def remove(stage: Stage) -> None:
    """Remove a stage under all its names, with all that is in it; what cannot be removed stays."""
    for named in names_of(stage):
        shutil.rmtree(named.folder, ignore_errors=True)
    tidy(stage)


def _earlier(home: Home, job: int, number: int, run_folder: Path) -> Iterator[Stage]:
    for before in range(number - 1, 0, -1):
        stage = stage_of(home.attempt(job, before), run_folder)
        if stage is not None:
            yield stage


DEPTH = 1  # of the folders in a model's folder that a job may write into without saying so
_ALL = 1 << 30
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT}


class NotWritable(Exception):
    """Nobody can write into a run's folder, or there is no project: nothing is to be kept apart."""


class Wanted(NamedTuple):
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


class View(NamedTuple):
    """What an attempt sees of its run's folder; both ways end when the stage is taken from it."""

    own: Path  # where it writes: laid out as the run's folder
    accepted: Path  # the run's folder


def make(
    attempt: Attempt, run_folder: Path, wanted: Wanted, *, job: int, number: int, left: str = ""
) -> View:
    """Make the stage of an attempt; return how the attempt reaches it.

    Args:
        attempt: its folder gets the link.
        run_folder: of what was accepted.
        wanted: where the job writes.
        job: its number.
        number: of the attempt.
        left: name of the stage of an earlier attempt, from which this one goes on; "": none.

    Raises:
        NotWritable: no stage can be made there, for anybody.
        OSError: the disk is full, or the stage was taken away meanwhile, as the attempt was given up.
    """
    stage, view = new_stage(run_folder, job, number), attempt.text(VIEW)
    # first of all: by the link a stage is known that is not whole because its worker was killed
    os.symlink(stage.folder, view)  # noqa: PTH211  # done for every attempt
    making = stage.named(MAKING)
    try:
        _make_folder(making)
    except OSError as error:
        os.unlink(view)  # noqa: PTH108  # likewise
        if error.errno in _READ_ONLY:
            raise NotWritable(str(error)) from error
        raise
    os.mkdir(making.new)  # noqa: PTH102  # likewise
    os.symlink("../..", f"{making.folder}/{RUN}")  # noqa: PTH211  # likewise
    links = Links()
    filling = _Filling(making, wanted, links)
    for name in wanted.entries:
        filling.enter(name)
    if left and take(Stage(run_folder, left)):
        inherit(Stage(run_folder, left, LEFT), making, links)
    write_links(making, links)
    os.rename(making.folder, stage.folder)  # noqa: PTH104  # likewise
    return View(own=Path(view) / run_folder.name, accepted=Path(view) / RUN)


def _make_folder(stage: Stage) -> None:
    """Make a stage's folder; that of all stages may be removed at any time by who finds it empty."""
    missing = [f"{stage.run_folder}/{STAGES}", str(stage.run_folder), str(stage.run_folder.parent)]
    while True:
        try:
            os.mkdir(stage.folder)  # noqa: PTH102  # done for every attempt
        except FileNotFoundError:
            _make_first(missing)
        else:
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


class _Filling:
    """Makes folders of a stage look like the accepted ones."""

    def __init__(self, stage: Stage, wanted: Wanted, links: Links) -> None:
        self._stage, self._wanted, self._links = stage, wanted, links
        self._ways: dict[str, set[str]] = {}  # folders above outputs → names in them to these
        for name in wanted.outputs:
            while within := name.rpartition("/")[0]:
                self._ways.setdefault(within, set()).add(name)
                name = within  # up and up

    def enter(self, name: str, levels: int = 0, *, listed: bool = False) -> None:
        """Make a name as it was accepted before, if it was.

        Args:
            name: into which the job writes, or below it; or of a folder in one that is listed.
            levels: of folders from here on of which all names appear; of others, the ways to outputs.
            listed: all names beside this one appear.
        """
        wanted, path = self._wanted, f"{self._stage.run_folder}/{name}"
        if not os.path.isdir(path):  # noqa: PTH112  # many names; a link to a folder is one, too
            if os.path.lexists(path):
                self._link(name)
            return
        if name in wanted.outputs:
            if name.startswith(f"{wanted.anew}/"):
                self._links.replaced.append(name)
                return
            levels = _ALL
        elif name in wanted.models:
            levels = 1 + DEPTH
        elif listed and name in self._ways:
            levels = max(levels, 1)
        if levels:
            self._list(name, levels - 1)
        elif listed:
            self._link(name)
        else:
            self._make(name)
            for way in self._ways[name]:
                self.enter(way)

    def _list(self, within: str, levels: int) -> None:
        self._make(within)
        with os.scandir(f"{self._stage.run_folder}/{within}") as entries:
            for entry in entries:
                name = f"{within}/{entry.name}"
                written = name in self._ways or name in self._wanted.outputs
                if written or entry.is_dir(follow_symlinks=False):
                    self.enter(name, levels, listed=True)
                else:
                    self._link(name)

    def _make(self, name: str) -> None:
        os.mkdir(f"{self._stage.new}/{name}")  # noqa: PTH102  # likewise
        self._links.folders.append(name)

    def _link(self, name: str) -> None:
        os.symlink(target_of(name), f"{self._stage.new}/{name}")  # noqa: PTH211  # likewise
        self._links.links.append(name)
