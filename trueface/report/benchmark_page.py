"""The page of a benchmark; templates/benchmark.html, which escapes what comes from the run."""

from markupsafe import Markup

from trueface.benchmark.leaderboard import Leaderboard
from trueface.benchmark.measures import AREA, AT_THRESHOLD, BALANCED
from trueface.benchmark.run_results import RunResults
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
        "areas": tables.heat_maps(run, board, AREA),
        "at_threshold": tables.heat_maps(run, board, AT_THRESHOLD),
        "at_zero": tables.heat_maps(run, board, BALANCED),
        "rates": tables.rates(run, board),
        "attacks": tables.attacks(run, board),
        "reliability": plots.reliability(run, board),
        "cost": plots.cost(board),
        "ranks": plots.ranks(board),
        "differences": tables.difference_table(board),
        "unranked": tables.notes("Not ranked, and why", board.unranked),
        "published": tables.published(),
        "not_run": tables.notes("Not run, and why", run.not_run),
        "problems": tables.notes("Left out", run.problems),
        "friedman": tables.notes("Friedman's test", [board.omnibus.text]),
        "settings": tables.notes("Why a setting is what it is", run.settings),
    }
    html = {name: Markup(text) for name, text in parts.items()}  # escaped where made
    template = environment().get_template("benchmark.html")
    return template.render(run=run, css=Markup(CSS), **html)


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
    ]
