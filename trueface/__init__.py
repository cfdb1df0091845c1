"""A laboratory for real-or-fake image detectors: train, poison, test, unlearn.

Start reading at `jobs.kinds`, then at `jobs.training`.
"""

__version__ = "1.0.0rc1"
__all__ = ["__version__"]
