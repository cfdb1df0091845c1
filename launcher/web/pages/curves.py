"""The curves of several jobs over each other."""

from launcher.errors import counted
from launcher.web.pages.page import Address, Content, Page, View
from launcher.web.pages.plots import MOST_JOBS, SMOOTHINGS, jobs_of, plots_of, wanted_of


def fill(view: View, address: Address) -> Content:
    """Return the curves of the jobs that the address names."""
    jobs = jobs_of(view, address.texts("job"))
    wanted = wanted_of(address, jobs)
    attempts = [view.home.attempt(row.id, row.attempts) for row in jobs if row.attempts]
    return Content(
        title=f"curves of {counted(len(jobs), 'job')}" if jobs else "curves",
        values={
            "jobs": jobs,
            "wanted": wanted,
            "smoothings": SMOOTHINGS,
            "most": MOST_JOBS,
            "left_out": max(0, len(set(address.texts("job"))) - MOST_JOBS),
            "plots_list": plots_of(view, wanted),
        },
        files=tuple(attempt.progress for attempt in attempts),
    )


PAGE = Page(name="curves", path="curves", fill=fill)
