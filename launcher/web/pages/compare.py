"""The results of several runs in one table, with the settings in which they differ."""

from launcher.store.listings import Listing
from launcher.web.pages.page import Address, Content, Page, View
from launcher.web.pages.run import mark_of_runs, result_values
from launcher.web.runs.run_data import Look, RunData

MOST_RUNS = 12


def fill(view: View, address: Address) -> Content:
    """Return the results of the runs that the address names."""
    texts = address.texts("run")
    numbers = [
        int(text) for text in texts if text.isascii() and text.isdecimal() and len(text) < 19
    ]
    numbers = [*dict.fromkeys(numbers)]
    runs = Listing(view.store.database).run_records(numbers[:MOST_RUNS])
    chosen = tuple(run.id for run in runs)
    look: Look[RunData] = view.runs.look(chosen, mark_of_runs(runs, view.now)) if runs else Look()
    return Content(
        title=f"comparison of {len(runs)} runs" if runs else "comparison",
        values={
            "runs": runs,
            "most": MOST_RUNS,
            "left_out": max(0, len(numbers) - MOST_RUNS),
            **result_values(look, address),
        },
        pending=look.pending,
    )


PAGE = Page(name="compare", path="runs/compare", fill=fill)
