"""A job queue with a GPU scheduler and an experiment language.

`taskfile`, `store`, `gpu` and `workers` do not import each other. `scheduler` combines store, gpu and
workers. `planning` combines task files, store and policy. Screens and command line are the top layer.

Start reading at `scheduler.loop`, or at `planning.load`.
"""

__version__ = "0.3.0.dev1"
__all__ = ["__version__"]
