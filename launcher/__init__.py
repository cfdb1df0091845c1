"""A job queue with a GPU scheduler and an experiment language.

The code is in five packages. Each imports only those below it: `frontends`, `experiments`, `queue`, `provenance`, `system`.
The modules beside them are doors: names that users, services, stored jobs and hashes contain. They lead into the packages.

Start reading at `queue.scheduler.loop`, or at `experiments.planning.load`.
"""

__version__ = "1.0.0rc1"
__all__ = ["__version__"]
