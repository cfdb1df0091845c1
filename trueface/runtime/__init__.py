"""Foundations of the lab: errors, paths, random streams, files (including those of the original), memory.

Start reading at `rng.stream_seed`.
"""
