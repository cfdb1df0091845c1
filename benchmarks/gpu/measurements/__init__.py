"""The parts of `make gpu`, each with a function `measure`, and what they share.

Start reading at `nvml.measure`.
"""
