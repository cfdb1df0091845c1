"""A job of the queue with other settings and terms: written as YAML, read back, and what follows from it.

Start reading at `revision.revise`.
"""
