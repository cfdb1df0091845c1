"""The picture of a replay as SVG by matplotlib: the jobs on each GPU over time, and below the number of waiting jobs.

Equal calls give equal bytes.
"""

import io
import warnings
from collections.abc import Sequence
from itertools import accumulate

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from launcher.frontends.simulate.baselines import DEFAULT_POLICY_NAME, Study, describe_sharing
from launcher.frontends.simulate.machine import JobSpan
from launcher.system.errors import pluralize

MOST_BARS = 6000  # with more jobs, the bars are an image, because none would be wider than a line
WIDTHS = (  # largest number of GPUs, in words, and the colour of such jobs
    (1, "1 GPU", "#7fb3d5"),
    (2, "2 GPUs", "#2e86c1"),
    (4, "3 to 4 GPUs", "#1a5276"),
    (8, "5 to 8 GPUs", "#d68910"),
    (1 << 30, "more than 8 GPUs", "#922b21"),
)
CURVES = ("#0b3c5d", "#b9770e", "#7d3c98")
# text stays text, file names are not parsed as formulas, and nothing is random
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "launcher", "text.parse_math": False}
_UNITS = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0))
_INCH = 72  # points


def draw_timeline(name: str, study: Study) -> str:
    """Return the picture as SVG: the first policy's bars, and the curves of some.

    Args:
        name: name of the file.
        study: the study.
    """
    spans, jobs, assumed = [*study.spans.values()], study.workload.jobs, study.assumptions
    cards = len(assumed.fleet.totals)
    end = max((span.end for each in spans for span in each), default=0.0)
    unit, unit_s = next((named for named in _UNITS if end >= 3 * named[1]), ("seconds", 1.0))
    height = min(max(cards * 36, 150), 440) / _INCH
    with rc_context(STYLE), warnings.catch_warnings():
        # a glyph that matplotlib's font lacks: the reader's font may have it
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(11.6, height + 4), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(height, 2.4))
        figure.suptitle(f"{pluralize(len(jobs), 'job')} of {name} on {assumed.fleet}")
        _draw_bars(upper, {job.index: job.gpus for job in jobs}, spans[0], unit_s)
        upper.set_title(
            f"{DEFAULT_POLICY_NAME}'s policy: {describe_sharing(assumed)}", fontsize="small", pad=32
        )
        upper.set(ylabel="GPU", ylim=(cards - 0.5, -0.5), xlim=(0, (end or 1.0) / unit_s))
        upper.yaxis.set_major_locator(MaxNLocator(integer=True))
        for (policy, each), colour in zip(study.spans.items(), CURVES, strict=False):
            times, lengths = queue_lengths(each)
            label = f"{policy}: at most {pluralize(max(lengths), 'job')}"
            hours = [at / unit_s for at in times]
            lower.step(hours, lengths, where="post", color=colour, label=label, linewidth=1)
        lower.set(ylabel="waiting", xlabel=f"{unit} since the first submission", ylim=(0, None))
        lower.yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
        lower.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(CURVES), frameon=False)
        file = io.StringIO()
        figure.savefig(file, format="svg", dpi=150, metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]  # without the XML header, as pages need it


def _draw_bars(axes: Axes, widths: dict[int, int], spans: Sequence[JobSpan], unit_s: float) -> None:
    """Draw a bar for each job on each of its GPUs; bars of jobs that share one are stacked."""
    bars = bar_places(spans)
    deep = max((place for _, _, place in bars), default=0) + 1
    shapes, colours = [], []
    for span, card, place in bars:
        left, right = span.start / unit_s, span.end / unit_s
        top = card - 0.45 + 0.9 * place / deep
        bottom = top + 0.85 / deep
        shapes.append([(left, top), (right, top), (right, bottom), (left, bottom)])
        colours.append(next(colour for most, _, colour in WIDTHS if widths[span.job] <= most))
    many = len(bars) > MOST_BARS
    axes.add_collection(
        PolyCollection(
            shapes, facecolors=colours, edgecolors="face", linewidths=0.2, rasterized=many
        )
    )
    handles = [Patch(color=colour, label=who) for _, who, colour in WIDTHS if colour in colours]
    axes.legend(
        handles=[Patch(visible=False, label="jobs on"), *handles],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(WIDTHS) + 1,
        frameon=False,
    )


def bar_places(spans: Sequence[JobSpan]) -> list[tuple[JobSpan, int, int]]:
    """Return (span, GPU, place); jobs that share a GPU at the same time have different places."""
    until: dict[int, list[float]] = {}  # GPU → when each of its places is free again
    bars = []
    for span in sorted(spans, key=lambda span: (span.start, span.job)):
        for card in span.cards:
            places = until.setdefault(card, [])
            free = next((at for at, end in enumerate(places) if end <= span.start), len(places))
            places[free : free + 1] = [span.end]
            bars.append((span, card, free))
    return bars


def queue_lengths(spans: Sequence[JobSpan]) -> tuple[list[float], list[int]]:
    """Return when the number of waiting jobs changed, and how many waited from then on."""
    changes = sorted(
        change
        for span in spans
        if span.start > span.ready
        for change in ((span.ready, 1), (span.start, -1))
    )
    # at one instant starts come first
    lengths = accumulate((change for _, change in changes), initial=0)
    return [0.0, *(at for at, _ in changes)], [*lengths]
