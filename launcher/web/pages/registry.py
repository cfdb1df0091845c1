"""All pages, in the order of the menu. A new page is a module here, a template, and a line below."""

from launcher.web.pages import curves, job, jobs, log, overview
from launcher.web.pages.page import Page

PAGES: tuple[Page, ...] = (
    overview.PAGE,
    jobs.PAGE,
    curves.PAGE,
    job.PAGE,
    log.PAGE,
)
