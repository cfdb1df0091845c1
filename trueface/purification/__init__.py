"""Purifiers: functions that take disrupting perturbations out of images, and the grammar of their names.

Start reading at `grammar.parse_purifier`.
In reading order: registry, grammar, settings, noise_level, steps, purifier, methods, denoiser, denoiser_training, folders.
"""
