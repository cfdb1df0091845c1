"""From a task file's entries to the jobs of a run, and from those to the queue.

Start reading at `load.plan`.
"""
