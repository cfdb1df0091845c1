"""A task file's entries, expanded into steps: one for each job, in the order in which they run.

Start reading at `expansion.expand`.
"""
