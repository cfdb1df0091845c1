"""Files of runs as responses: pictures unchanged, reports without active content."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from launcher.frontends.web.page import parse_number
from launcher.frontends.web.run_data import REPORT_BYTES, REPORT_SUFFIX
from launcher.frontends.web.run_pictures import (
    MOST_BYTES,
    RUN_FOLDER,
    folders_of,
    open_below,
    type_of,
)
from launcher.frontends.web.view import NotFound, QueueView
from launcher.queue.store.listings import ListingQueries
from launcher.system.errors import UsageError
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_bytes

# for an SVG drawing or a report: its own style, but no script, form, frame or other address
FILE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; sandbox"
)
FILE_HEADERS: Mapping[str, str] = {
    "content-security-policy": FILE_POLICY,
    "cache-control": "private, max-age=3600",  # the address of the file contains its version
    "content-disposition": "inline",
}


class TooLarge(UsageError):
    """A file is too large to be sent."""

    status = 413


def newest_of_name(view: QueueView, name: str) -> int:
    """Return the number of the newest run of a name.

    Raises:
        NotFound: no run has this name.
    """
    run = ListingQueries(view.store.database).newest_run_named(name)
    if run is None:
        raise NotFound(
            f"run {sanitize_terminal(name)!r} does not exist. It may have been deleted by `launcher clean`."
        )
    return run


def run_file(view: QueueView, run: int, folder: str, path: str) -> tuple[bytes, str]:
    """Return a picture or a report of a run, and its media type.

    Args:
        view: the queue.
        run: its number.
        folder: folder as `folders_of` names it.
        path: path below the folder.

    Raises:
        NotFound: the file does not exist, is not a picture, or is outside the folder.
        TooLarge: the file is too large.
    """
    parts = PurePosixPath(path)
    is_report = folder == RUN_FOLDER and len(parts.parts) == 1 and parts.suffix == REPORT_SUFFIX
    media_type = "text/html" if is_report else type_of(path)
    if folder == RUN_FOLDER:
        number = ListingQueries(view.store.database).first_job(run)
    else:
        number = parse_number(folder.partition("-")[2].partition("-")[0])
    rows = view.store.read.jobs_by_id([] if number is None else [number])
    jobs = [row for row in rows if row.run_id == run]
    place = folders_of(view.home, jobs).get(folder) if jobs else None
    if place is None or not media_type:
        raise NotFound("this picture does not exist")
    most = REPORT_BYTES if is_report else MOST_BYTES
    try:
        with open_below(place, path) as (file, status):
            if status.st_size > most:
                raise TooLarge(
                    f"{sanitize_terminal(path)} has {format_bytes(status.st_size)}. This page shows files "
                    f"up to {format_bytes(most)}."
                )
            return file.read(most), media_type
    except (OSError, ValueError) as error:
        raise NotFound("this picture does not exist. It may have been deleted.") from error
