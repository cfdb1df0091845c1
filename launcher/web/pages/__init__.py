"""The pages: each is a module that fills a template of its name, and a line in `registry`.

Start reading at `page.Page`.
In reading order: page, registry, overview, jobs, job, log, run, runs, compare,
curves, plots, shown.
"""
