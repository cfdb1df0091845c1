"""The page of purification; templates/purification.html, which escapes what comes from the run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from trueface.report.generation import purification_tables as tables
from trueface.report.generation.detectors import Detector
from trueface.report.generation.made_folders import Made
from trueface.report.generation.pictures import strip
from trueface.report.generation.price_plot import price_plot
from trueface.report.generation.purifier_verdicts import sentences
from trueface.report.generation.rows import Row, rows_of
from trueface.report.json_fields import number_of, text_of
from trueface.report.page import environment
from trueface.report.style import CSS
from trueface.report.svg import number
from trueface.report.tables import facts
from trueface.runtime.files import Json, write_atomic

FILE = "purification.html"
COLUMNS = (
    "original", "its output", "disrupted", "change × 10", "its output", "purified", "its output",
)  # fmt: skip
PICTURES = 2  # rows of tiles of a purifier
MOST_STRIPS = 40  # in one page


@dataclass(frozen=True, slots=True, kw_only=True)
class Purification:
    """All that a run has to say about purifiers."""

    name: str  # of the run
    rows: Sequence[Mapping[str, Json]]  # one a purifier
    attacks: Sequence[Mapping[str, Json]]  # one an attack, the control among them
    restored: Sequence[Made]  # folders with tiles
    detectors: Sequence[Detector] = ()
    rule: str = ""  # how the rows' verdicts are found


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Tiles of one purifier under one attack."""

    purifier: str
    attack: str
    strips: tuple[str, ...]  # data URLs


def write_purification_page(run: Purification, path: Path) -> None:
    """Write the page of a run, atomically; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, purification_page(run).encode(errors="backslashreplace"))


def purification_page(run: Purification) -> str:
    """Return the page: it needs no other file, and the same run gives the same page."""
    rows = rows_of(run.rows)
    grids: dict[str, list[Strip]] = {}
    for each in sorted(_strips(run.restored), key=_place_in([row.name for row in rows])):
        grids.setdefault(each.attack, []).append(each)
    template = environment().get_template("purification.html")
    return template.render(
        name=run.name,
        css=Markup(CSS),
        about=Markup(facts(_about(run, rows))),  # escaped where made, as is all below
        sentences=list(sentences(rows)),
        attacks=Markup(tables.attack_table(run.attacks)),
        purifiers=Markup(tables.purifier_table(rows)) if rows else "",
        aims=Markup(tables.aim_table(rows)),
        features=next((text for row in rows if (text := text_of(row.record, "features"))), ""),
        rule=run.rule,
        plot=Markup(price_plot(rows)),
        columns=COLUMNS,
        grids=grids,
        detectors=Markup(tables.detector_table(run.detectors)),
    )


def _strips(restored: Sequence[Made]) -> Iterator[Strip]:
    """Yield the tiles of each purifier and attack once: of the first seed."""
    shown: set[tuple[str, str]] = set()
    for made in restored:
        purifier, attack = text_of(made.measures, "purifier"), _attack(made)
        if not purifier or (purifier, attack) in shown or len(shown) >= MOST_STRIPS:
            continue
        path = made.path / "grid.png"
        cut = (strip(path, tiles=len(COLUMNS), row=row) for row in range(PICTURES))
        urls = tuple(url for url in cut if url is not None)
        if urls:
            shown.add((purifier, attack))
            yield Strip(purifier=purifier, attack=attack, strips=urls)


def _place_in(order: Sequence[str]) -> Callable[[Strip], int]:
    """Return what sorts tiles as a table's rows; an attack's place is that of its first tiles."""
    place = {name: at for at, name in enumerate(order)}
    return lambda each: place.get(each.purifier, len(place))


def _attack(made: Made) -> str:
    name, target = text_of(made.measures, "attack"), text_of(made.measures, "target")
    knows = "knows the purifier" if made.measures.get("adaptive") is True else ""
    if not knows and (through := text_of(made.measures, "through")):
        knows = f"knows {through}"
    return ", ".join(filter(None, (name, target, knows))) or "no attack"


def _about(run: Purification, rows: Sequence[Row]) -> Iterator[tuple[str, object]]:
    yield "purifiers", ", ".join(row.name for row in rows) or "none"
    attacks = dict.fromkeys(text_of(each, "attack") for each in run.attacks)
    if any(attacks):
        yield "attacks", ", ".join(filter(None, attacks))
    for key, words in (("eps", "eps, in units of [\N{MINUS SIGN}1, 1]"), ("images", "images")):
        values = (number_of(made.measures, key) for made in run.restored)
        known = dict.fromkeys(number(value) for value in values if value is not None)
        if known:
            yield words, ", ".join(known)
