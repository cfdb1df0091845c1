"""The links of a staging folder to earlier accepted outputs, and their record."""

import errno
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launcher.queue.staging.stages import StagingFolder
from launcher.system.files import Json, read_json, write_json

_UP = "../../.."  # from the outputs of an attempt to the folder of its run


@dataclass(slots=True)
class StagingLinks:
    """Contents of a staging folder when its attempt began. All names are relative to the run's folder."""

    links: list[str] = field(default_factory=list)  # names of links to accepted files and folders
    folders: list[str] = field(default_factory=list)  # real ones, parents first
    # folders that the attempt creates again: they replace the accepted ones as a whole
    replaced: list[str] = field(default_factory=list)
    # an output under its name in the staging folder, then under its final name; empty if these are equal
    renamed: list[str] = field(default_factory=list)
    # found when the staging folder was sealed: the above names that the attempt has deleted
    gone: list[str] = field(default_factory=list)
    gone_folders: list[str] = field(default_factory=list)
    sealed: bool = False


_FIELDS = ("links", "folders", "replaced", "renamed", "gone", "gone_folders")


def write_links(stage: StagingFolder, links: StagingLinks) -> None:
    """Write the record of a staging folder's links into it, if there are any.

    Raises:
        OSError: the disk is full.
    """
    record: dict[str, Json] = {"schema": 1}
    record |= {name: [*names] for name in _FIELDS if (names := getattr(links, name))}
    record |= {"sealed": True} if links.sealed else {}
    if len(record) > 1:
        write_json(Path(stage.links_record), record, durable=False)


def read_links(stage: StagingFolder) -> StagingLinks:
    """Return the record of a staging folder's links. Names that lead out of the run's folder are omitted."""
    record: Mapping[str, Json] = read_json(stage.links_record) or {}
    names = {name: [*_names_within(record.get(name))] for name in _FIELDS}
    return StagingLinks(**names, sealed=record.get("sealed") is True)


def _names_within(names: Json) -> Iterable[str]:
    for name in names if isinstance(names, list) else ():
        if isinstance(name, str) and not {"", ".", ".."} & {*name.split("/")}:
            yield name


def link_target(name: str) -> str:
    """Return the target of the link of a name: short, and valid under all names of the staging folder."""
    return f"{_UP}/{'../' * name.count('/')}{name}"


def is_own_link(stage: StagingFolder, name: str) -> bool:
    """Return whether a name in a staging folder is still the link that was made for it.

    Raises:
        FileNotFoundError: the attempt has deleted it.
        NotADirectoryError: the attempt has deleted it with its parent folder.
    """
    try:
        return os.readlink(f"{stage.output_folder}/{name}") == link_target(name)  # noqa: PTH115  # many names
    except OSError as error:
        if error.errno == errno.EINVAL:  # a file of its own has taken the place
            return False
        raise


def find_deleted(stage: StagingFolder, links: StagingLinks) -> list[str]:
    """Return which names the attempt has deleted that were links to something accepted."""
    gone = []
    for name in links.links:
        try:
            is_own_link(stage, name)
        except (FileNotFoundError, NotADirectoryError):
            gone.append(name)
    return gone
