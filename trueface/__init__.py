"""A laboratory for real-or-fake image detectors: train, poison, test, unlearn.

Start reading at `jobs.kinds`, then at `jobs.training`.
In reading order: runtime, legacy, corruptions, attacks, data, models, features, poisoning, evaluation,
translation, diffusion, purification, disruption, erasing, prediction, benchmark, training, unlearning, jobs, audit, report, cli, __main__.
"""

__version__ = "0.3.0.dev1"
__all__ = ["__version__"]
