"""The page of purification; templates/purification.html, which escapes what comes from the run.

It contains tables of attacks with their control, purifiers and detectors, and the comparison in words, in
which the adaptive number decides. A plot shows the price on clean images against the remaining damage, on
two logarithmic axes.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from trueface.evaluation.over_seeds import (
    NO_MODELS,
    MethodRow,
    MissingModels,
    missing_sentence,
)
from trueface.generators.purification.study import CONTROL, NONE, RULE, DetectorRow, RestoredFolder
from trueface.generators.report import TEMPLATES
from trueface.generators.report.purification_tables import (
    ADAPTIVE,
    PURIFIERS,
    aim_columns,
    aims,
    attacks_table,
    detectors_table,
    is_generator,
    name_defence,
    purifiers_table,
    reference_columns,
)
from trueface.generators.report.study_parts import tiles, verdicts
from trueface.report.figures import (
    DrawnShape,
    Figure,
    FigureLegend,
    Frame,
    Marks,
    Polyline,
    log_axis,
    number,
    place_names,
    three_digits,
)
from trueface.report.method_plane import LEAST_MARKS
from trueface.report.page import Page, render_template
from trueface.report.svg import render_framed
from trueface.report.tables import study_table

RIVALS = ("jpeg@75", "jpeg75")  # methods that need neither training nor a network
CLOSER_DB = 1.0  # an image must get closer to the original by this to be reported


WIDTH, HEIGHT = 1050, 460
EDGE_DECADES = 0.15
FREE_DECADES = 0.35  # left of the least price: the place of those that cost nothing
MARKS = {  # by the kind of the attack, in the order of the key
    "non-adaptive": Marks(((8, 6),), "disc", "method"),
    "adaptive": Marks(((8, 6),), "cross", "broken", radius=4),
}
GRID = "grid.png"  # file in a folder: `COLUMNS`, a row for each image
COLUMNS = (
    "original", "output for it", "disrupted", "change × 10", "output for it", "purified", "output for it",
)  # fmt: skip
PICTURES = 2  # rows of tiles of a purifier
MOST_STRIPS = 60  # in one page


def sentences(rows: Sequence[MethodRow], missing: MissingModels = NO_MODELS) -> Iterator[str]:
    """Yield the sentences of a table of purifiers; plain text, to be escaped."""
    if sentence := missing_sentence(missing):
        yield sentence
    unpurified = next((row for row in rows if row.name == NONE), None)
    purifiers = [row for row in rows if row.name != NONE]
    if not purifiers:
        return
    yield from _describe_adaptive(purifiers, unpurified)
    yield from verdicts(purifiers)
    yield from _methods_better_than_jpeg(purifiers)
    yield from _pictures(purifiers, unpurified)


def _describe_adaptive(
    purifiers: Sequence[MethodRow], unpurified_row: MethodRow | None
) -> Iterator[str]:
    defence = name_defence(purifiers)
    without = "without purification" if defence == "purifier" else "without a defence"
    known = [(mse, row) for row in purifiers if (mse := row.mean(ADAPTIVE)) is not None]
    unknown = [row.name for row in purifiers if row.mean(ADAPTIVE) is None]
    if known:
        known.sort(key=lambda pair: pair[0])
        mse, best = known[0]
        damage = _unpurified_damage(best, unpurified_row)
        damage_text = "" if damage is None else f" ({without}: {three_digits(damage)})"
        yield (
            f"Against an attack that knows the {defence}, {best.name} leaves the lowest MSE: "
            f"{three_digits(mse)}{damage_text}. The verdict is based on this number."
        )
        useless = [
            row.name
            for mse, row in known
            if (before := _unpurified_damage(row, unpurified_row)) is not None and mse >= before
        ]
        if useless:
            yield (
                f"An attack that knows these {defence}s causes at least the MSE {without}: "
                f"{', '.join(useless)}."
            )
    if unknown:
        yield f"No verdict without an adaptive attack: {', '.join(unknown)}."


def _unpurified_damage(row: MethodRow, unpurified_row: MethodRow | None) -> float | None:
    """Return the damage without purification, by the attacks that were run against a purifier."""
    if unpurified_row is None:
        return None
    same = [unpurified_row.mean(f"mse_{aim}") for aim in aims(row, f"{ADAPTIVE}_")]
    known = [value for value in same if value is not None]
    if same and len(known) == len(same):
        return sum(known) / len(known)
    return unpurified_row.mean("mse")


def _methods_better_than_jpeg(purifiers: Sequence[MethodRow]) -> Iterator[str]:
    """Yield who restores more than JPEG at no higher price, by both numbers."""
    rival = next((row for row in purifiers if row.name in RIVALS), None)
    price = None if rival is None else rival.mean("price_clean")
    if rival is None or price is None or len(purifiers) < 2:
        return
    for key, words in ((ADAPTIVE, "adaptive"), ("mse", "non-adaptive")):
        bound = rival.mean(key)
        if bound is None:
            continue
        better = [
            f"{row.name} (MSE {three_digits(mse)}, on clean images {three_digits(cost)})"
            for row in purifiers
            if (mse := row.mean(key)) is not None
            and (cost := row.mean("price_clean")) is not None
            and mse < bound
            and cost <= price
        ]
        head = f"{rival.name} ({words} MSE {three_digits(bound)}, on clean images {three_digits(price)})"
        if better:
            yield f"Lower MSE than {head}, and no higher MSE on clean images: {', '.join(better)}."
        else:
            yield f"No {name_defence(purifiers)} has a lower MSE than {head} and no higher MSE on clean images."


def _pictures(purifiers: Sequence[MethodRow], unpurified_row: MethodRow | None) -> Iterator[str]:
    """Yield whether the images themselves get closer to the originals, or only the outputs."""
    before = None if unpurified_row is None else unpurified_row.mean("psnr")
    changing = [row for row in purifiers if not is_generator(row)]  # a generator changes no image
    if before is None or not changing:
        return
    closer = [
        row.name
        for row in changing
        if (psnr := row.mean("psnr")) is not None and psnr > before + CLOSER_DB
    ]
    yield (
        f"PSNR more than 1 dB higher than that of the disrupted images ({before:.1f} dB): "
        f"{', '.join(closer) or 'none. These purifiers break the pattern of the attack'}."
    )


class PurifierDamage(NamedTuple):
    """A purifier in the plane of price and damage: the damage left by an attack that does, and does not, know it."""

    name: str
    price: float  # ≥ 0
    blind: float | None
    adaptive: float | None

    @property
    def damages(self) -> dict[str, float]:
        """The damages that were measured, by the kind of the attack."""
        both = {"non-adaptive": self.blind, "adaptive": self.adaptive}
        return {kind: value for kind, value in both.items() if value is not None}


def price_plot(rows: Sequence[MethodRow]) -> Figure | None:
    """Return the figure. None for fewer than three numbers, which the table shows. Better is lower and further left."""
    each = list(_damages(rows))
    if sum(len(of.damages) for of in each) < LEAST_MARKS:
        return None
    prices = [math.log10(of.price) for of in each if of.price > 0] or [-3.0, -1.0]
    damages = [math.log10(value) for of in each for value in of.damages.values()]
    free = any(of.price <= 0 for of in each)
    least = min(prices) - (FREE_DECADES if free else EDGE_DECADES)
    frame = Frame(
        width=WIDTH,
        height=HEIGHT,
        left=64,
        x=(least, max(prices) + EDGE_DECADES),
        y=(min(damages) - EDGE_DECADES, max(damages) + EDGE_DECADES),
    )
    drawn: list[DrawnShape] = []
    taken, named = [], []
    for of in each:
        x = math.log10(of.price) if of.price > 0 else least
        points = {kind: (x, math.log10(value)) for kind, value in of.damages.items()}
        ends = tuple(points.values())
        if len(ends) > 1:
            drawn.append(Polyline(ends, "leader"))
            taken.append(frame.line_box(*ends))
        drawn += [MARKS[kind]._replace(points=(point,)) for kind, point in points.items()]
        taken += map(frame.mark_box, ends)
        named.append(ends[-1])  # the adaptive one, where there is one, as that counts
    names = [f"{of.name} (no change of clean images)" if of.price <= 0 else of.name for of in each]
    return Figure(
        frame,
        [*drawn, *place_names(frame, names, named, taken)],
        title="Damage left by the price on clean images",
        description="; ".join(
            f"{of.name}: clean {of.price:.4f}, "
            + ", ".join(f"{value:.4f} {kind}" for kind, value in of.damages.items())
            for of in each
        ),
        x=log_axis("MSE of the output on purified clean images", frame.x),
        y=log_axis("MSE of the output under attack, purified", frame.y),
        key=FigureLegend(
            [
                (
                    f"attack that does not know the {name_defence(rows)} (non-adaptive)",
                    [MARKS["non-adaptive"]],
                ),
                ("attack that knows it (adaptive)", [MARKS["adaptive"]]),
            ],
            width=16,
            height=12,
            beside=True,
        ),
    )


def _damages(rows: Sequence[MethodRow]) -> Iterator[PurifierDamage]:
    for row in rows:
        # who does nothing costs nothing, and need not be measured
        price = 0.0 if row.name == NONE else row.mean("price_clean")
        blind, adaptive = (
            value if value is not None and value > 0 else None
            for value in (row.mean("mse"), row.mean("mse_adaptive"))
        )
        if price is not None and (blind is not None or adaptive is not None):
            yield PurifierDamage(row.name, price, blind, adaptive)


class Purification(NamedTuple):
    """The purification results of a run."""

    name: str  # name of the run
    rows: Sequence[MethodRow]  # one a purifier
    attacks: Sequence[MethodRow]  # one an attack, the control among them
    restored: Sequence[RestoredFolder]  # with tiles
    detectors: Sequence[DetectorRow] = ()
    missing: MissingModels = NO_MODELS  # models and folders without a result


class Strip(NamedTuple):
    """Tiles of one purifier under one attack."""

    purifier: str
    strips: tuple[str, ...]  # data URLs


def purification_page(run: Purification) -> Page:
    """Return the page: the same run gives the same page."""
    rows = run.rows
    plot, purifiers = price_plot(rows), purifiers_table(rows)
    names = [column.name for column in (*PURIFIERS, *reference_columns(rows))]
    aimed = [column.name for column in aim_columns(rows)]
    html = render_template(
        TEMPLATES / "purification.html",
        _describe_run(run),
        name=run.name,
        sentences=list(sentences(rows, run.missing)),
        attacks=study_table(attacks_table(run.attacks)),
        purifiers=study_table(purifiers.select(names)),
        generators=any(map(is_generator, rows)),
        defence=name_defence(rows),
        aims=study_table(purifiers.select(aimed)) if aimed else "",
        features=next((text for row in rows if (text := row.text("features"))), ""),
        rule=RULE,
        plot=render_framed(plot),
        columns=COLUMNS,
        grids=_grids(run.restored, [row.name for row in rows]),
        detectors=study_table(detectors_table(run.detectors)),
    )
    return Page(html, {"": [plot] if plot else []})


def _grids(folders: Sequence[RestoredFolder], order: Sequence[str]) -> dict[str, list[Strip]]:
    """Return tiles by attack, those of a table's purifiers in its order, each once: of the first seed."""
    first: dict[tuple[int, str, int, str], Path] = {}
    for each in folders:
        purifier, path = each.method, each.path / GRID
        if path.is_file():
            position = order.index(purifier) if purifier in order else len(order)
            key = (_rank(each), _attack(each), position, purifier)
            first.setdefault(key, path)
    grids: dict[str, list[Strip]] = {}
    for key in sorted(first)[:MOST_STRIPS]:
        _, attack, _, purifier = key
        urls = [tiles(first[key], columns_per_row=len(COLUMNS), row=row) for row in range(PICTURES)]
        if whole := tuple(url for of in urls for url in of):
            grids.setdefault(attack, []).append(Strip(purifier, whole))
    return grids


def _rank(folders: RestoredFolder) -> int:
    """Return the place of an attack: those that know no purifier, those that do, the control, none."""
    name = folders.text("attack")
    if name in {"", CONTROL}:
        return 3 if name else 4
    if folders.facts.get("adaptive") is True:
        return 1
    return 2 if folders.text("through") else 0


def _attack(folders: RestoredFolder) -> str:
    name = folders.text("attack")
    if name == CONTROL:
        return f"{name} signs"
    defence = "generator" if folders.text("reference") else "purifier"
    knows = f"knows the {defence}" if folders.facts.get("adaptive") is True else ""
    if not knows and (through := folders.text("through")):
        knows = f"knows {through}"
    return ", ".join(filter(None, (name, folders.text("target"), knows))) or "no attack"


def _describe_run(run: Purification) -> Iterator[tuple[str, object]]:
    yield "purifiers", ", ".join(row.name for row in run.rows) or "none"
    if run.attacks:
        yield "attacks", ", ".join(dict.fromkeys(row.name for row in run.attacks))
    for key, words in (("eps", "eps, in units of [\N{MINUS SIGN}1, 1]"), ("images", "images")):
        values = (restored.number(key) for restored in run.restored)
        known = dict.fromkeys(number(value) for value in values if value is not None)
        if known:
            yield words, ", ".join(known)
