"""A file that a run left, as an answer: pictures, and reports without anything that acts."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from launcher.errors import UsageError
from launcher.screens.format import harmless
from launcher.store.listings import Listing
from launcher.units import format_bytes
from launcher.web.pages.page import NotThere, View, whole_of
from launcher.web.runs.pictures import MOST_BYTES, RUN_FOLDER, opened, type_of
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


def run_file(view: View, run: int, folder: str, path: str) -> tuple[bytes, str]:
    """Return a picture or a report that a run left, and its media type.

    Args:
        view: the queue.
        run: its number.
        folder: as `folders_of` names it.
        path: below the folder.

    Raises:
        NotThere: there is none, or it is no picture, or lies elsewhere.
        TooLarge: it is too large.
    """
    parts = PurePosixPath(path)
    is_report = folder == RUN_FOLDER and len(parts.parts) == 1 and parts.suffix == REPORT_SUFFIX
    media_type = HTML if is_report else type_of(path)
    place = _folder(view, run, folder)
    if place is None or not media_type:
        raise NotThere("there is no such picture")
    return _content(place, path, REPORT_BYTES if is_report else MOST_BYTES), media_type


def _folder(view: View, run: int, name: str) -> Path | None:
    """Return the folder of a name among those of a run and its jobs."""
    if name == RUN_FOLDER:
        number = Listing(view.store.database).first_job(run)
    else:
        number = whole_of(name.partition("-")[2].partition("-")[0])
    rows = view.store.read.jobs_by_id([] if number is None else [number])
    jobs = [row for row in rows if row.run_id == run]
    return folders_of(view.home, jobs).get(name) if jobs else None


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
