"""The verbs, one module a family; no module imports another.

Start reading at `run.command`.
"""
