"""Python as a way into the queue: functions and task files are submitted, and their jobs are futures.

Start reading at `api.submit`.
"""
