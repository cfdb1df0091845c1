"""The queue on disk, and the only place with SQL.

Start reading at `queue.Store`.
In reading order: client, queue, opening, recovery, migrations, migration_steps, connection, rows,
job_queries, screen_queries, completion_queries, user_actions, scheduler_actions, transitions,
usage, runs, history_queries, history, failure_groups, retention, unreadable_jobs.
"""
