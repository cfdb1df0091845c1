"""An attempt's processes: fork servers, supervisors, and the worker that runs a kind's entry.

Start reading at `supervisor`, then `worker.work`.
"""
