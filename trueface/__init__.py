"""A laboratory for real-or-fake image detectors: train, poison, test, unlearn."""

__version__ = "0.3.0.dev0"
__all__ = ["__version__"]
