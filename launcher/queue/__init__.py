"""The queue: jobs, their database, the scheduler, clusters, GPUs, the processes of attempts and their outputs.

The packages above submit jobs and read results. They are not imported here.
Start reading at `store.queue.Store`, then `scheduler.loop`.
"""
