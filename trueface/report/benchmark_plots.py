"""The plots of a benchmark's page: reliability, cost against the worst AUC, ranks."""

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from trueface.benchmark.known_data import Setting
from trueface.benchmark.leaderboard import Leaderboard, Line
from trueface.benchmark.run_results import RunResults
from trueface.evaluation.calibration import Labels, probabilities
from trueface.evaluation.intervals import Floats, Measure, unvaried
from trueface.report.scatter import Mark, scatter
from trueface.report.svg import Frame, Point, axes, diagonal, key, line, svg

BELIEFS = 10  # bins of a reliability diagram
LEAST = 5  # images of a bin that has a point


def reliability(run: RunResults, board: Leaderboard) -> str:
    """Return of each model how often what it calls fake is: without and with the temperature."""
    return "".join(
        _reliability(run, entry.model, board.names[entry.model]) for entry in board.lines
    )


def cost(board: Leaderboard) -> str:
    """Return the time of an image against the AUC of the worst cell."""
    names = board.names
    marks = [
        Mark(
            name=names[entry.model],
            time=entry.ms_image,
            quality=_worst(entry).value,
            spread=(_worst(entry).high - _worst(entry).low) / 2,
            role="method",
        )
        for entry in board.lines
        if entry.columns
    ]
    picture = scatter(
        marks, before=None, retrain=None, across="time of an image, ms", up="AUC of the worst cell"
    )
    return f'<div class="wide">{picture}</div>' if picture else ""


def _worst(entry: Line) -> Measure:
    """Return the lowest AUC of all cells of a model."""
    return min(
        (column.worst.value for column in entry.columns.values()), key=lambda worst: worst.value
    )


def ranks(board: Leaderboard) -> str:
    """Return the rank of each model in each setting, with its interval."""
    return "".join(_ranks(board, setting) for setting in Setting)


def _reliability(run: RunResults, model: str, name: str) -> str:
    clean = [
        result
        for result in run.results
        if result.group == model and result.cell.condition.is_clean and result.scores is not None
    ]
    tables = [(result.scores, result.facts) for result in clean if result.scores is not None]
    if not tables:
        return ""
    fakes: Labels = np.concatenate([scores.labels for scores, _ in tables])
    plain = np.concatenate([facts.calibration.plain(scores.logits) for scores, facts in tables])
    scaled = np.concatenate([facts.calibration.scaled(scores.logits) for scores, facts in tables])
    frame = Frame()
    parts = [
        axes(frame, "probability of fake", "share of fakes"),
        diagonal(frame),
        *_curve(frame, fakes, plain, 0),
        *_curve(frame, fakes, scaled, 1),
    ]
    picture = svg(
        frame, parts, title=f"Reliability of {name}", description="without and with temperature"
    )
    below = key(("without temperature", "with that of validation"))
    return f"<figure><figcaption>{escape(name)}</figcaption>{picture}{below}</figure>"


def _curve(frame: Frame, fakes: Labels, logits: Floats, series: int) -> Iterator[str]:
    """Yield a curve of a reliability diagram, at each bin with Wilson's interval."""
    beliefs = probabilities(logits)
    bins = np.minimum((beliefs * BELIEFS).astype(int), BELIEFS - 1)
    points: list[Point] = []
    for place in np.unique(bins):
        inside = bins == place
        if np.sum(inside) < LEAST:
            continue
        share = unvaried(float((fakes[inside] == 1).mean()), int(np.sum(inside)))
        points.append((float(beliefs[inside].mean()), share.value))
        (x, low), (_, high) = (frame.at(points[-1][0], end) for end in (share.low, share.high))
        yield f'<path class="interval s{series}" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
    yield line(frame, points, series, marks=True)


def _ranks(board: Leaderboard, setting: Setting) -> str:
    names = board.names
    ranked = [
        (names[entry.model], column.ranked)
        for entry in board.lines
        if (column := entry.columns.get(setting)) is not None and column.ranked is not None
    ]
    if not ranked:
        return ""
    ranked.sort(key=lambda pair: pair[1].rank)
    count = len(ranked)
    frame = Frame(
        width=360, height=58 + 22 * count, left=150, x=(0.8, count + 0.2), y=(count + 0.5, 0.5)
    )
    whole: Sequence[float] = tuple(range(1, count + 1))
    parts = [axes(frame, "rank", "", x_ticks=whole, y_ticks=())]
    for place, (name, at) in enumerate(ranked, start=1):
        (left, y), (right, _) = frame.at(at.low, place), frame.at(at.high, place)
        middle, _ = frame.at(at.rank, place)
        parts.append(f'<path class="whisker" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
        parts.append(f'<circle class="of-method" cx="{middle:.1f}" cy="{y:.1f}" r="4"/>')
        parts.append(f'<text x="144" y="{y + 4:.1f}" text-anchor="end">{escape(name[-24:])}</text>')
    description = "; ".join(
        f"{name}: {at.rank:.1f} ({at.low:.1f}–{at.high:.1f})" for name, at in ranked
    )
    picture = svg(frame, parts, title=f"Ranks, {setting}", description=description)
    return f'<figure class="picture"><figcaption>{setting}</figcaption>{picture}</figure>'
