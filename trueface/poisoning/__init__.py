"""Flipped training labels: chosen by rule and seed, recorded by key, applied by name.

Start reading at `label_flips.choose_flips`.
"""
