"""Python as a way into the queue: functions and task files are submitted, and their jobs are futures.

Start reading at `api.submit`.
In reading order: api, options, checks, submit, names, calls, pickling, plain_values,
private_files, entry, outcome_files, future, watcher, job_states, waiting, progress_bar, task_files, plan_checks, results, leftovers.
"""
