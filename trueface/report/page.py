"""Pages: one self-contained HTML file each, from a template, and its figures as files next to it.

Every page is a template that extends base.html; a name from the run is escaped there. Tables and figures
are already HTML, and are inserted unchanged. Every figure has a description in words for users who cannot
see it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from trueface.audit.finding import count
from trueface.report import svg, tables
from trueface.report.figures import Figure
from trueface.report.style import CSS
from trueface.runtime.files import write_atomic

TEMPLATES = Path(__file__).parent / "templates"
MOST_OF_A_TITLE = 60  # characters in the name of a file, which may have 255 bytes

FigureKind = Literal["svg", "png", "pdf"]


class Page(NamedTuple):
    """A page, and its figures by the folder in which they are files."""

    html: str
    figures: Mapping[str, Sequence[Figure]]


def render_template(
    template: str | Path,
    facts: Iterable[tuple[str, object]],
    outcome: Sequence[str] = (),
    **values: object,
) -> str:
    """Return the HTML of a page; the same values give the same bytes.

    Args:
        template: name of a file in `templates`, or the path of another; it extends base.html.
        facts: names and facts below its title.
        outcome: sentences on the outcome, below these.
        values: what the template names; text is escaped there, `Markup` is not.
    """
    file = TEMPLATES / template
    values |= {"about": tables.facts(facts), "outcome": outcome}
    return _environment(file.parent).get_template(file.name).render(values)


@cache
def _environment(templates: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([templates, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"css": Markup(CSS), "count": count}
    environment.globals |= {"facts": tables.facts, "breakable": svg.allow_line_breaks}
    return environment


_OURS = re.compile(rf"\d\d+ .+\.({'|'.join(get_args(FigureKind))})")  # in a folder of the page


def write_page(page: Page, path: Path, kinds: Sequence[FigureKind] = ()) -> None:
    """Write a page, and its figures into folders next to it, replacing those of an earlier one.

    Args:
        page: what to write; each file is written atomically, and folders are made as needed.
        path: of the page; the folder of "fairness.html" is "fairness-figures".
        kinds: file types of each figure. (): none are written, and earlier ones stay.

    Raises:
        ImportError: matplotlib is missing, which draws PNG and PDF.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page.html)
    if not kinds:
        return
    top = path.with_name(f"{path.stem}-figures")
    for name, figures in page.figures.items():
        folder = top / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if _OURS.fullmatch(old.name) and old.is_file():
                old.unlink()
        for number, figure in enumerate(figures, start=1):
            title = f"{number:02} {figure.title[:MOST_OF_A_TITLE]}".replace("/", "_")
            for kind in kinds:
                # whole or not there; after a power cut a report can be written again
                write_atomic(folder / f"{title}.{kind}", _file(figure, kind), durable=False)


def _file(figure: Figure, kind: FigureKind) -> str | bytes:
    if kind == "svg":
        return svg.file(figure)
    # matplotlib is an extra, and takes long to import
    from trueface.report.matplotlib_figures import render_figure

    return render_figure(figure, kind)
