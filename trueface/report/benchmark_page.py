"""The page of a benchmark; templates/benchmark.html, which escapes what comes from the run."""

from collections.abc import Iterator
from itertools import chain

from markupsafe import Markup

from trueface.audit.finding import count as counted
from trueface.benchmark.leaderboard import Leaderboard
from trueface.benchmark.measures import AREA, AT_THRESHOLD, BALANCED
from trueface.benchmark.run_results import RunResults
from trueface.report import benchmark_heat_maps as heat_maps
from trueface.report import benchmark_plots as plots
from trueface.report import benchmark_tables as tables
from trueface.report.page import environment
from trueface.report.style import CSS
from trueface.report.tables import facts


def benchmark_page(run: RunResults, board: Leaderboard) -> str:
    """Return the page: it needs no other file, and the same run gives the same page."""
    parts = {
        "about": facts(_about(run, board)),
        "leaderboard": tables.leaderboard_table(board),
        "areas": heat_maps.heat_maps(run, board, AREA),
        "at_threshold": heat_maps.heat_maps(run, board, AT_THRESHOLD),
        "at_zero": heat_maps.heat_maps(run, board, BALANCED),
        "rates": heat_maps.rates(run, board),
        "attack_rates": heat_maps.attack_rates(run, board),
        "attacks": tables.attacks(run, board),
        "reliability": plots.reliability(run, board),
        "cost": plots.cost(board),
        "ranks": plots.ranks(board),
        "differences": tables.difference_table(board),
        "unranked": tables.notes("Not ranked, and why", chain(run.without_area, board.unranked)),
        "published": tables.published(),
        "not_run": tables.notes("Not run, and why", run.not_run_named(board.names)),
        "problems": tables.notes("Left out, and why", run.problems),
        "confounds": tables.notes("Told by the form of the files", run.confounds),
        "friedman": tables.notes("Friedman's test", [board.omnibus.text]),
        "settings": tables.notes("Why a setting is what it is", run.settings),
    }
    html = {name: Markup(text) for name, text in parts.items()}  # escaped where made
    template = environment().get_template("benchmark.html")
    return template.render(run=run, css=Markup(CSS), **html)


def _timed_on(run: RunResults) -> Iterator[str]:
    """Yield the devices on which the time of an image was taken."""
    facts = {(result.facts.device, result.facts.threads) for result in run.results}
    for device, threads in sorted(facts):
        yield f"{device}, {counted(threads, 'thread')}"


def _about(run: RunResults, board: Leaderboard) -> list[tuple[str, object]]:
    tests = list(dict.fromkeys(result.index.test for result in run.results))
    conditions = dict.fromkeys(result.cell.condition.name for result in run.results)
    versions = ", ".join(f"{name} {value}" for name, value in run.manifest.versions.items())
    return [
        ("benchmark", f"{run.manifest.name} (SHA-256 of {len(run.manifest.entries)} images)"),
        ("models", len(board.lines)),
        ("sets of images", ", ".join(tests)),
        ("conditions", ", ".join(conditions)),
        ("versions", versions),
        ("timed on", ", ".join(_timed_on(run))),
    ]
