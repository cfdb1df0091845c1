"""GPU state of the scheduler: readings, reservations, and publications for other users.

Start reading at `gpu_state.SchedulerGpus`.
"""
