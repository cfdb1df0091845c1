"""The parts of `make gpu`, each with a function `measure`, and shared code.

Start reading at `nvml.measure`.
"""
