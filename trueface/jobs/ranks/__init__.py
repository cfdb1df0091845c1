"""The processes of a job that trains in several: started, watched and ended by the job's own process.

Start reading at `coordinator.run`.
"""
