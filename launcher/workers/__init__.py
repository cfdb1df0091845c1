"""An attempt's processes: fork servers, supervisors, and the worker that runs a kind's entry.

Start reading at `supervisor`, then `worker.work`.
In reading order: order, order_writer, fork_server_pool, fork_server_client, fork_server, preload, spawn_outage,
start_attempt, started_file, spawn, supervisor, running_time, worker, forks, job, progress, memory_share,
lease, leftover_processes, exit_outcome, oom_messages.
"""
