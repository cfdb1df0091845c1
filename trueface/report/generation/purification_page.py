"""The page of purification; templates/purification.html, which escapes what comes from the run."""

from collections.abc import Iterator, Mapping, Sequence
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
CONTROL = "random"
PICTURES = 2  # rows of tiles of a purifier
MOST_STRIPS = 60  # in one page


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
    strips: tuple[str, ...]  # data URLs


def write_purification_page(run: Purification, path: Path) -> None:
    """Write the page of a run, atomically; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, purification_page(run).encode(errors="backslashreplace"))


def purification_page(run: Purification) -> str:
    """Return the page: it needs no other file, and the same run gives the same page."""
    rows = rows_of(run.rows)
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
        grids=_grids(run.restored, [row.name for row in rows]),
        detectors=Markup(tables.detector_table(run.detectors)),
    )


def _grids(restored: Sequence[Made], order: Sequence[str]) -> dict[str, list[Strip]]:
    """Return tiles by attack, those of a table's purifiers in its order, each once: of the first seed."""
    first: dict[tuple[str, str], Made] = {}
    for made in restored:
        purifier = text_of(made.measures, "purifier")
        if purifier and (made.path / "grid.png").is_file():
            first.setdefault((_attack(made), purifier), made)
    place = {name: at for at, name in enumerate(order)}
    keys = sorted(
        first, key=lambda key: (_rank(first[key]), key[0], place.get(key[1], len(place)), key[1])
    )
    grids: dict[str, list[Strip]] = {}
    for attack, purifier in keys[:MOST_STRIPS]:
        path = first[attack, purifier].path / "grid.png"
        cut = (strip(path, tiles=len(COLUMNS), row=row) for row in range(PICTURES))
        urls = tuple(url for url in cut if url is not None)
        if urls:
            grids.setdefault(attack, []).append(Strip(purifier=purifier, strips=urls))
    return grids


def _rank(made: Made) -> int:
    """Return the place of an attack: those that know no purifier, those that do, the control, none."""
    name = text_of(made.measures, "attack")
    if name in {"", CONTROL}:
        return 3 if name else 4
    if made.measures.get("adaptive") is True:
        return 1
    return 2 if text_of(made.measures, "through") else 0


def _attack(made: Made) -> str:
    name, target = text_of(made.measures, "attack"), text_of(made.measures, "target")
    if name == CONTROL:
        return f"{name} signs"
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
