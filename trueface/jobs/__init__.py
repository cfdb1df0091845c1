"""The kinds of jobs and their entry functions, which turn a `Job` into files and measures.

Start reading at `kinds`, then `training.train`.
"""
