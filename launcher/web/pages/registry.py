"""All pages, in the order of the menu. A new page is a module here, a template, and a line below."""

from launcher.web.pages import compare, curves, job, jobs, log, overview, run, runs
from launcher.web.pages.page import Page

PAGES: tuple[Page, ...] = (
    overview.PAGE,
    jobs.PAGE,
    runs.PAGE,
    curves.PAGE,
    job.PAGE,
    log.PAGE,
    run.PAGE,
    compare.PAGE,
)
