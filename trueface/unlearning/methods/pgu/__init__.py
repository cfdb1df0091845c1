"""Projected gradient unlearning: steps that spare where the kept images lie.

Start reading at `method.unlearn`.
In reading order: method, projection, subspaces, covariances.
"""
