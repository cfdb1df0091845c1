"""The kind `benchmark`: a model on a set of images, as they are, corrupted and attacked.

Start reading at `benchmarking.benchmark`.
"""
