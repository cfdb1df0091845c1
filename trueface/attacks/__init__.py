"""Attacks on detectors: small changes of images that shall turn what a detector says of them.

Start reading at `perturb.apply_attack`.
"""
