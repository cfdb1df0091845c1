"""A file that a run left, as an answer: pictures, and reports without anything that acts."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from launcher.errors import UsageError
from launcher.screens.format import harmless
from launcher.store.listings import Listing
from launcher.units import format_bytes
from launcher.web.pages.page import NotThere, View, whole_of
from launcher.web.runs.figures import MOST_BYTES, RUN_FOLDER, SVG, figure_of, opened, type_of
from launcher.web.runs.run_data import REPORT_BYTES, REPORT_SUFFIX, folders_of

# a drawing or a report opened by itself: its own style, and no script, form, frame or other address
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; sandbox"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "cache-control": "private, max-age=3600",  # its address has its version
    "content-disposition": "inline",
}
HTML = "text/html"


class Place(NamedTuple):
    """Which file is asked for."""

    run: int
    folder: str  # as `folders_of` names it
    path: str  # below the folder
    figure: int | None = None  # of a report; None: the whole file


class RunFile(NamedTuple):
    """A file, and how it is sent."""

    content: bytes
    media_type: str
    headers: Mapping[str, str]


class TooLarge(UsageError):
    """A file is too large to be sent."""


def newest_of_name(view: View, name: str) -> int:
    """Return the number of the newest run of a name.

    Raises:
        NotThere: there is none.
    """
    run = Listing(view.store.database).run_named(name)
    if run is None:
        raise NotThere(f"there is no run {harmless(name)!r}; it may have been cleaned")
    return run


def run_file(view: View, place: Place) -> RunFile:
    """Return a picture or a report that a run left.

    Raises:
        NotThere: there is none, or it is no picture, or lies elsewhere.
        TooLarge: it is too large.
    """
    folder = _folder(view, place)
    is_report = _is_report(place)
    media_type = HTML if is_report else type_of(place.path)
    if folder is None or not media_type:
        raise NotThere("there is no such picture")
    content = _content(folder, place.path, REPORT_BYTES if is_report else MOST_BYTES)
    if is_report and place.figure is not None:
        drawing = figure_of(content.decode(errors="replace"), place.figure)
        if drawing is None:
            raise NotThere("the report has no such figure; it may have been written anew")
        content, media_type = drawing.encode(), SVG
    return RunFile(content=content, media_type=media_type, headers=HEADERS)


def _is_report(place: Place) -> bool:
    path = PurePosixPath(place.path)
    return place.folder == RUN_FOLDER and len(path.parts) == 1 and path.suffix == REPORT_SUFFIX


def _folder(view: View, place: Place) -> Path | None:
    """Return the folder of a name among those of a run and its jobs."""
    if place.folder == RUN_FOLDER:
        number = Listing(view.store.database).first_job(place.run)
    else:
        number = whole_of(place.folder.partition("-")[2].partition("-")[0])
    rows = view.store.read.jobs_by_id([number] if number is not None else [])
    jobs = [row for row in rows if row.run_id == place.run]
    return folders_of(view.home, jobs).get(place.folder) if jobs else None


def _content(folder: Path, path: str, most: int) -> bytes:
    try:
        with opened(folder, path) as (file, status):
            if status.st_size > most:
                raise TooLarge(
                    f"{harmless(path)} has {format_bytes(status.st_size)}: a page shows files "
                    f"up to {format_bytes(most)}"
                )
            return file.read(most)
    except (OSError, ValueError) as error:
        raise NotThere("there is no such picture; it may have been deleted") from error
