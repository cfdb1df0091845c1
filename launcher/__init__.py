"""A job queue with a GPU scheduler and an experiment language.

`taskfile`, `store`, `gpu` and `workers` know nothing of each other; `scheduler` ties store, gpu and
workers; `planning` ties task files, store and policy; screens and command line sit on top.

Start reading at `scheduler.loop`, or at `planning.load`.
"""

__version__ = "0.3.0.dev1"
__all__ = ["__version__"]
