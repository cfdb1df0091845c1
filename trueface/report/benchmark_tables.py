"""The tables of a benchmark's page: leaderboard, attacks, differences, published figures."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from trueface.benchmark.known_data import Setting
from trueface.benchmark.leaderboard import Column, Leaderboard, Line
from trueface.benchmark.measures import Value
from trueface.benchmark.run_results import Result, RunResults
from trueface.evaluation.published.tables import OTHER_DATA, published_tables
from trueface.report.svg import breakable
from trueface.report.tables import NO_VALUE


def leaderboard_table(board: Leaderboard) -> str:
    """Return the leaderboard: three columns, never one mean over them."""
    names = board.names
    settings = [each for each in Setting if any(each in line.columns for line in board.lines)]
    head = "".join(
        f'<th scope="col">{setting}<small>mean AUC</small></th>'
        f'<th scope="col">worst<small>cell, {setting}</small></th>'
        '<th scope="col">P(best)<small>rank</small></th>'
        for setting in settings
    )
    body = "".join(_line(line, names, settings) for line in board.lines)
    return (
        '<p class="caption">Sorted by the lowest mean AUC of the settings. Small numbers are 95 % '
        "intervals: over images and, from three on, seeds. P(best): share of resamples in which the "
        "model has the best mean rank over the cells of the setting. ECE: mean calibration error on "
        "clean images, below it that after scaling by the temperature of validation.</p>"
        '<div class="wide"><table class="measures"><thead><tr><th scope="col" class="left">model</th>'
        f'<th scope="col">seeds</th>{head}<th scope="col">ECE<small>scaled</small></th>'
        '<th scope="col">ms an image<small>parameters</small></th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def attacks(run: RunResults, board: Leaderboard) -> str:
    """Return what attacks do, with the control of random signs beside them."""
    attacked = [result for result in run.results if result.cell.condition.is_attack]
    if not attacked:
        return ""
    names = board.names
    rows = sorted(
        attacked,
        key=lambda result: (result.group, result.index.test),  # a control stays before its attack
    )
    body = "".join(_attack(result, names[result.group]) for result in rows)
    titles = (
        "called fake before", "after", "evasion", "defamation", "logit shift of fakes", "PSNR, dB",
    )  # fmt: skip
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    return (
        '<p class="caption">Evasion: fakes called fake before and real after; defamation: reals '
        "called real before and fake after. Logit shift and PSNR are medians over images.</p>"
        '<div class="wide"><table class="measures"><thead><tr><th scope="col" class="left">model</th>'
        '<th scope="col" class="left">images</th><th scope="col" class="left">attack</th>'
        f'<th scope="col" class="left">access</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def difference_table(board: Leaderboard) -> str:
    """Return the paired differences of all models, by setting."""
    names = board.names
    rows = "".join(
        f'<tr><th scope="row">{setting}</th><td class="left">{escape(names[pair.second])} minus '
        f"{escape(names[pair.first])}</td><td>{pair.value:+.3f}<small>{pair.low:+.3f} … "
        f"{pair.high:+.3f}</small></td><td>{_p(pair.p_holm)}</td>"
        f"<td>{NO_VALUE if pair.p_delong is None else _p(pair.p_delong)}</td></tr>"
        for setting, pairs in board.pairs.items()
        for pair in pairs
    )
    if not rows:
        return ""
    return (
        '<p class="caption">Difference of the mean AUC on the same images, 95 % interval by the '
        "paired bootstrap, not corrected; p by the bootstrap over all cells, and by DeLong on clean "
        "images, both with Holm's correction for the pairs of a setting.</p>"
        '<div class="wide"><table><thead><tr>'
        '<th scope="col" class="left">setting</th><th scope="col" class="left">models</th>'
        '<th scope="col">difference</th><th scope="col">p</th><th scope="col">p by DeLong</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def published() -> str:
    """Return figures that others published, marked: none of them is of these images."""
    parts = []
    for table in published_tables():
        rows = "".join(
            f'<tr><th scope="row">{escape(row.detector)}</th><td class="left">{escape(row.trained_on)}</td>'
            f'<td class="left">{escape(row.tested_on)}</td><td class="left">{escape(row.metric)}</td>'
            f'<td>{row.value:.3f}</td><td class="left">{OTHER_DATA}</td></tr>'
            for row in table.rows
        )
        parts.append(
            f"<details><summary>{escape(table.title)}</summary><p>{escape(table.citation)}. "
            f'{escape(table.note)}.</p><div class="wide"><table><thead><tr>'
            '<th scope="col" class="left">detector</th><th scope="col" class="left">trained on</th>'
            '<th scope="col" class="left">tested on</th><th scope="col" class="left">measure</th>'
            f'<th scope="col">value</th><th scope="col" class="left">mark</th></tr></thead><tbody>{rows}'
            "</tbody></table></div></details>"
        )
    return "".join(parts)


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "&lt;0.001"


def notes(title: str, texts: Iterable[str]) -> str:
    """Return a list of remarks below a title; nothing where there is none."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<h3>{escape(title)}</h3><ul>{items}</ul>" if items else ""


def _line(line: Line, names: Mapping[str, str], settings: Sequence[Setting]) -> str:
    cells = "".join(_column(line.columns.get(setting)) for setting in settings)
    told, scaled = (
        NO_VALUE if value is None else f"{value:.3f}" for value in (line.ece, line.ece_scaled)
    )
    name = names[line.model]
    below = "" if name == line.model else f'<small class="id">{breakable(line.model)}</small>'
    return (
        f'<tr><th scope="row">{escape(name)}{below}</th><td>{line.seeds}</td>{cells}'
        f"<td>{told}<small>{scaled}</small></td>"
        f"<td>{line.ms_image:.1f}<small>{line.parameters:,}</small></td></tr>"
    )


def _column(column: Column | None) -> str:
    if column is None:
        return f"<td>{NO_VALUE}</td>" * 3
    mean, worst, ranked = column.mean, column.worst, column.ranked
    place = worst.place[0] if worst.place[1] == "none" else f"{worst.place[1]}, {worst.place[0]}"
    best = (
        f'<td title="{escape(column.reason)}">not ranked</td>'
        if ranked is None
        else f"<td>{ranked.best:.2f}<small>{ranked.low:.1f}–{ranked.high:.1f}</small></td>"
    )
    return (
        f"<td>{mean.value:.3f}<small>{mean.low:.3f}–{mean.high:.3f}</small></td>"
        f'<td title="{escape(place)}">{worst.value.value:.3f}<small>{worst.value.low:.3f}–'
        f"{worst.value.high:.3f}</small><small>{escape(worst.place[1])}</small></td>{best}"
    )


def _attack(result: Result, name: str) -> str:
    measured = result.measured
    wanted = (
        "called_fake_before:fake", "called_fake:fake", "attack_success_evasion",
        "attack_success_defamation", "logit_shift:fake", "psnr",
    )  # fmt: skip
    cells = "".join(f"<td>{_shown(measured[each])}</td>" for each in wanted)
    if not result.cell.file:
        cells = f'<td class="left" colspan="{len(wanted)}">{escape(result.cell.reason)}</td>'
    seed = "" if result.index.seed is None else f"<small>seed {result.index.seed}</small>"
    return (
        f'<tr><th scope="row">{escape(name)}{seed}</th><td class="left">{breakable(result.index.test)}</td>'
        f'<td class="left">{escape(result.cell.attack)}</td><td class="left">{result.cell.access}</td>'
        f"{cells}</tr>"
    )


def _shown(value: Value | None) -> str:
    if value is None or value.value is None:
        return NO_VALUE
    if value.low is None or value.high is None:
        return f"{value.value:.2f}"
    return f"{value.value:.3f}<small>{value.low:.3f}–{value.high:.3f}</small>"
