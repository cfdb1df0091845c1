"""The audit of an experiment: a thin reader of files, and pure checks of the facts it read.

Start reading at `check.collect`.
"""
