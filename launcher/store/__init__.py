"""The queue on disk, and the only place with SQL.

Start reading at `queue.Store`.
In reading order: client, queue, new_rows, opening, recovery, migrations, migration_steps, connection, rows, lanes,
job_queries, screen_queries, completion_queries, listing, user_actions, steering, scheduling,
usage, runs, history_queries, history, node_use, failure_groups, retention.
"""
