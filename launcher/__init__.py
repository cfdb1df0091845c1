"""A job queue with a GPU scheduler and an experiment language."""

__version__ = "0.2.0"
__all__ = ["__version__"]
