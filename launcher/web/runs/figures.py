"""The figures of a report, each drawing in an HTML page of a run as a picture of its own; and pictures that jobs left.

A laboratory writes its report as one page with drawings inside. Their colours come from the page's style
sheet, which each picture takes along. Pictures are found in the folders of a run; no link is followed below such a
folder, so nothing outside of it can be read through it.
"""

import os
import re
import stat
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple
from xml.etree import ElementTree

MOST_FIGURES = 60  # of a page
WIDE = 2.0  # widths to a height
SMALLEST = 120  # units wide; what is narrower is a mark in a line
_STYLE = re.compile(r"<style\b[^>]*>(.*?)</style>", re.DOTALL | re.IGNORECASE)
_HEADING = re.compile(r"<h2\b[^>]*>(.*?)</h2>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_DRAWING = re.compile(r"<svg\b[^>]*>.*?</svg>", re.DOTALL)
_HEAD = re.compile(r"<svg\b[^>]*>")
_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)
_BOX = re.compile(r'\bviewBox="[-\d.]+ [-\d.]+ (\d+(?:\.\d+)?) (\d+(?:\.\d+)?)"')
_NAMESPACE = "http://www.w3.org/2000/svg"


class Figure(NamedTuple):
    """A drawing of a page."""

    number: int  # among its drawings, from 0
    title: str
    section: str = ""  # the heading above it
    wide: bool = False  # more than twice as wide as high


def figures_of(page: str) -> list[Figure]:
    """Return the drawings of a page that can be shown alone.

    Args:
        page: HTML.
    """
    figures: list[Figure] = []
    headings = [(match.start(), _plain(match[1])) for match in _HEADING.finditer(page)][::-1]
    for number, match in enumerate(_DRAWING.finditer(page)):
        if len(figures) == MOST_FIGURES:
            break
        if _box(match[0])[0] >= SMALLEST and _is_xml(standing_alone(match[0], "")):
            title = _TITLE.search(match[0])
            figures.append(
                Figure(
                    number=number,
                    title=_plain(title[1]) if title else "",
                    wide=_shape(match[0]) > WIDE,
                    section=next((text for at, text in headings if at < match.start()), ""),
                )
            )
    return figures


def figure_of(page: str, number: int) -> str | None:
    """Return a drawing of a page as an SVG file, None where there is none.

    Args:
        page: HTML.
        number: of the drawing, from 0.
    """
    for at, drawing in enumerate(_drawings(page)):
        if at == number:
            style = "\n".join(_STYLE.findall(page))
            return standing_alone(drawing, style)
    return None


def standing_alone(drawing: str, style: str) -> str:
    """Return a drawing of a page as a file.

    Args:
        drawing: its element.
        style: the rules of the page.
    """
    head = _HEAD.match(drawing)
    if head is None:
        return drawing
    start = head[0]
    if "xmlns=" not in start:
        start = start.replace("<svg", f'<svg xmlns="{_NAMESPACE}"', 1)
    rules = style.replace("]]>", "")
    sheet = f"<style><![CDATA[{rules}]]></style>" if style else ""
    return f"{start}{sheet}{drawing[head.end() :]}"


def _plain(html: str) -> str:
    return " ".join(unescape(_TAG.sub("", html)).split())


def _drawings(page: str) -> Iterator[str]:
    for match in _DRAWING.finditer(page):
        yield match[0]


def _box(drawing: str) -> tuple[float, float]:
    """Return the width and the height of a drawing, 0 where it does not say them."""
    head = _HEAD.match(drawing)
    box = _BOX.search(head[0]) if head else None
    return (float(box[1]), float(box[2])) if box else (0.0, 0.0)


def _shape(drawing: str) -> float:
    width, height = _box(drawing)
    return width / height if height else 0.0


def _is_xml(text: str) -> bool:
    """Tell whether a browser shows it: a page may hold what only HTML allows."""
    try:
        ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return False
    return True


SVG = "image/svg+xml"
TYPES: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".svg": SVG,
}
MOST_BYTES = 32 << 20  # of a file that is sent
RUN_FOLDER = "run"  # the name of a run's own folder in addresses
MOST_PICTURES = 120  # of a run
MOST_OF_A_JOB = 6  # outside of the run's folder; a data set may have 100,000
MOST_OF_A_FOLDER = 12
MOST_ENTRIES = 20_000  # that are looked at
DEEPEST = 6  # folders below each other
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO may have no writer


class Picture(NamedTuple):
    """A picture by its place: the name of a folder, and the path below it."""

    folder: str
    path: str
    size: int  # bytes
    version: int  # another number when the file is another

    @property
    def job(self) -> int | None:
        """The job whose folder it is; None: the run's own."""
        _, _, rest = self.folder.partition("-")
        return int(rest.partition("-")[0]) if rest else None

    @property
    def too_large(self) -> bool:
        """Tell whether it is too large to be sent."""
        return self.size > MOST_BYTES


class Gallery(NamedTuple):
    """The pictures of a run."""

    pictures: tuple[Picture, ...] = ()
    left_out: int = 0  # that were seen beside them
    complete: bool = True  # all folders were looked through


@dataclass(slots=True)
class _Search:
    """How far a search is."""

    pictures: list[Picture] = field(default_factory=list)
    left_out: int = 0
    entries: int = 0

    @property
    def tired(self) -> bool:
        return self.entries >= MOST_ENTRIES

    def room(self, folder: str) -> int:
        """Return how many more pictures of a folder are listed."""
        if folder == RUN_FOLDER:
            return MOST_PICTURES - len(self.pictures)
        taken = sum(picture.folder == folder for picture in self.pictures)
        return min(MOST_PICTURES - len(self.pictures), MOST_OF_A_JOB - taken)


def find_pictures(folders: Mapping[str, Path]) -> Gallery:
    """Return the pictures that lie in folders, in each those near its top first.

    Args:
        folders: by the names that addresses have for them; one that is not there has none. One that
            is a picture itself stands for that alone.
    """
    search = _Search()
    for name, folder in folders.items():
        if type_of(folder.name):
            _take_in(search, name, folder)
        waiting = deque([(str(folder), "", 0)])
        while waiting and not search.tired and search.room(name) > 0:
            place, below, depth = waiting.popleft()
            inner = _look_into(search, name, place, below)
            if depth < DEEPEST:
                waiting += [(f"{place}/{each}", f"{below}{each}/", depth + 1) for each in inner]
    return Gallery(
        pictures=tuple(search.pictures), left_out=search.left_out, complete=not search.tired
    )


def _look_into(search: _Search, folder: str, place: str, below: str) -> list[str]:
    """Take in the pictures of a folder; return the names of the folders in it, in order."""
    inner: list[str] = []
    files: list[tuple[str, os.stat_result]] = []
    search.entries += 1
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                search.entries += 1
                if search.tired:
                    break
                if entry.name.startswith(".") or not _is_text(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
                elif type_of(entry.name) and entry.is_file(follow_symlinks=False):
                    files.append((entry.name, entry.stat(follow_symlinks=False)))
    except OSError:  # gone meanwhile, or not ours to read
        return []
    files.sort(key=lambda file: file[0])
    room = min(MOST_OF_A_FOLDER, search.room(folder))
    search.left_out += max(0, len(files) - room)
    search.pictures += [_picture(folder, f"{below}{name}", status) for name, status in files[:room]]
    return sorted(inner)


def _take_in(search: _Search, name: str, file: Path) -> None:
    """Take in a picture that a job names among its outputs."""
    try:
        status = file.lstat()
    except OSError:
        return
    if stat.S_ISREG(status.st_mode) and _is_text(file.name) and search.room(name) > 0:
        search.pictures.append(_picture(name, file.name, status))


def _picture(folder: str, path: str, status: os.stat_result) -> Picture:
    return Picture(folder=folder, path=path, size=status.st_size, version=status.st_mtime_ns)


def type_of(path: str) -> str:
    """Return the media type of a picture by its name; '' of what is no picture."""
    return TYPES.get(PurePosixPath(path).suffix.lower(), "")


def _is_text(name: str) -> bool:
    """Tell whether an address can hold a name: it may be bytes that are no UTF-8."""
    return name.isprintable()


@contextmanager
def opened(folder: Path, path: str) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Open a file below a folder, without following any link there.

    Args:
        folder: itself reached as the system does; a picture stands for that alone.
        path: below it, with slashes.

    Raises:
        OSError: there is no such plain file.
        ValueError: the path leads out of the folder, or is none.
    """
    *above, name = parts_of(path)
    if type_of(folder.name) and path == folder.name:
        folder = folder.parent
    place = os.open(folder, _FOLDER)
    try:
        for part in above:
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=place)
            os.close(place)
            place = inner
        file = os.open(name, _FILE, dir_fd=place)
    finally:
        os.close(place)
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        os.close(file)
        raise FileNotFoundError(f"{path} is no plain file")
    with os.fdopen(file, "rb") as stream:
        yield stream, status


def parts_of(path: str) -> list[str]:
    """Return the names in a path below a folder.

    Raises:
        ValueError: it leads out of the folder, or is none.
    """
    parts = path.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise ValueError(f"{path!r} is no path below a folder")
    return parts
