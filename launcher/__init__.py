"""A job queue with a GPU scheduler and an experiment language."""

__version__ = "0.3.0.dev0"
__all__ = ["__version__"]
