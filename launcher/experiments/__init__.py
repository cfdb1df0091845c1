"""Experiments: task files, the jobs that they plan, searches, results, and Python functions as jobs.

`kind_interface` describes job types of plugin packages, and `draft` a job that is planned.
Start reading at `taskfile.parser`, then `planning.load`.
"""
