"""The kinds of jobs and their entry functions: from a `Job` to files and numbers, glue and nothing else.

Start reading at `kinds`, then `training.train`.
"""
