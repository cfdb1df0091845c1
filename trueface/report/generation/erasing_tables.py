"""The tables of the page of erasing: methods, samples at equal seeds, published figures."""

from collections.abc import Mapping, Sequence
from html import escape

from trueface.erasing.measures.record import TEACHER
from trueface.evaluation.published.tables import CITATION, MARK, NOTE, published_erasing
from trueface.report.generation.made_folders import Made
from trueface.report.generation.pictures import tile
from trueface.report.generation.rows import Row, has_several, named
from trueface.report.json_fields import list_of, text_of
from trueface.report.svg import breakable, number
from trueface.report.tables import NO_VALUE

PICTURES = 2  # of each concept
PUBLISHED = ("NudeNet, %", "FID", "KID", "CLIP score", "SSIM")
RATES = (("erased", "erased<small>still drawn</small>"), ("anchor", "drawn as the anchor"), ("others", "others"))  # fmt: skip


def method_table(rows: Sequence[Row]) -> str:
    """Return one row a method: what it erased, what else it changed, what can be recovered."""
    head = (
        *(title for _, title in RATES),
        "SSIM<small>to the teacher</small>",
        "feature distance",
        "Fréchet distance<small>and its floor</small>",
        "null drift",
        "recovery<small>floor, ceiling</small>",
        "seconds",
        "seeds",
    )
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    body = "".join(map(_method, rows))
    return (
        '<div class="wide"><table class="measures"><thead><tr>'
        f'<th scope="col" class="left">method</th>{titles}<th scope="col" class="left">verdict</th>'
        f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


def sample_table(folders: Sequence[Made], order: Sequence[str] = ()) -> str:
    """Return samples of each concept by each method, at equal seeds; nothing where there are none.

    Args:
        folders: with samples.
        order: names of methods that come first, in this order.
    """
    shown = _first_of_each(folders, order)
    if not shown:
        return ""
    first = next(iter(shown.values()))
    concepts = [str(name) for name in list_of(first.measures, "class_names")]
    parts: dict[str, str] = {}
    if not has_several(made.measures for made in folders):
        parts[text_of(first.measures, "anchor")] = "anchor"
        parts[text_of(first.measures, "concept")] = "erased"
    head = "".join(
        f'<th scope="col">{escape(name)}'
        f"{f'<small>{parts[name]}</small>' if name in parts else ''}</th>"
        for name in concepts
    )
    body = ""
    for method, made in shown.items():
        cells = "".join(_samples(made, concepts, at, method) for at in range(len(concepts)))
        body += f'<tr><th scope="row">{breakable(method)}</th>{cells}</tr>'
    return (
        '<div class="wide"><table class="tiles"><thead><tr><th scope="col" class="left">method</th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def published_table() -> str:
    """Return the published figures, marked as what they are."""
    head = "".join(f'<th scope="col">{title}</th>' for title in PUBLISHED)
    body = ""
    for row in published_erasing():
        figures = row.nudenet_percent, row.fid, row.kid, row.clip_score, row.ssim
        cells = "".join(
            f"<td>{NO_VALUE if figure is None else number(figure)}</td>" for figure in figures
        )
        body += f'<tr><th scope="row">{escape(row.method)}</th>{cells}</tr>'
    return (
        f'<p class="caption"><strong>{escape(MARK)}</strong>: {escape(NOTE)}. {escape(CITATION)}.</p>'
        '<div class="wide"><table><thead><tr><th scope="col" class="left">method</th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _method(row: Row) -> str:
    cells = [row.cell(key, 3) for key, _ in RATES]
    cells += [row.cell("ssim", 3), row.short("feature_distance")]
    cells.append(row.short("frechet") + _below(row, "frechet_floor"))
    cells.append(row.short("null_drift"))
    ends = ", ".join(
        NO_VALUE if (value := row.mean(key)) is None else f"{value:.2f}"
        for key in ("recovery_floor", "recovery_ceiling")
    )
    recovery = row.cell("recovery", 3)
    cells.append(recovery if recovery == NO_VALUE else f"{recovery}<small>{ends}</small>")
    cells += [row.short("seconds"), row.short("seeds")]
    verdict = "" if row.name.startswith(TEACHER) else text_of(row.record, "verdict")
    place = text_of(row.record, "verdict_at")
    below = f'<small class="id">{escape(place)}</small>' if verdict and place else ""
    return (
        f'<tr><th scope="row">{breakable(row.name)}</th>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + f'<td class="left words">{escape(verdict) or NO_VALUE}{below}</td></tr>'
    )


def _below(row: Row, key: str) -> str:
    return "" if row.mean(key) is None else f"<small>{row.short(key)}</small>"


def _first_of_each(folders: Sequence[Made], order: Sequence[str]) -> Mapping[str, Made]:
    """Return the first folder of each method that has samples."""
    shown: dict[str, Made] = {}
    several = has_several(made.measures for made in folders)
    for made in folders:
        if (made.path / "samples.png").is_file() and list_of(made.measures, "class_names"):
            shown.setdefault(named(made.measures, several=several), made)
    place = {name: at for at, name in enumerate(order)}
    return dict(sorted(shown.items(), key=lambda pair: place.get(pair[0], len(place))))


def _samples(made: Made, concepts: Sequence[str], at: int, method: str) -> str:
    urls = (
        tile(made.path / "samples.png", rows=len(concepts), row=at, column=column)
        for column in range(PICTURES)
    )
    images = "".join(
        f'<img class="tile" src="{url}" alt="{escape(f"{concepts[at]} by {method}")}">'
        for url in urls
        if url
    )
    return f'<td><div class="pair">{images or NO_VALUE}</div></td>'
