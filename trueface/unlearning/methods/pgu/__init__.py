"""Projected gradient unlearning: steps orthogonal to the inputs of the retain set.

Start reading at `method.unlearn`.
In reading order: method, projection, subspaces, covariances.
"""
