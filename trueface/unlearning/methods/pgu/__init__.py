"""Projected gradient unlearning: steps orthogonal to the inputs of the retain set.

Start reading at `method.projected_gradient`.
"""
