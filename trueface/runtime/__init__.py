"""Foundations of the lab: errors, paths, random streams, files, memory.

Start reading at `rng.stream_seed`.
"""
