"""The scheduler's side of the GPUs: what is seen of them, what is promised there, what other users are told.

Start reading at `gpu_state.SchedulerGpus`.
"""
