"""Checkpoints that others published, as models of a run.

Start reading at `adoption.adopt`.
"""
