"""The processes of a job that trains in several: started, watched and ended by the job's own process.

Start reading at `coordinator.run`.
In reading order: world, coordinator, messages, failures, server_client, server, rank_process,
rank_job.
"""
