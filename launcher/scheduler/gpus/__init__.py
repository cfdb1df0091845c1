"""The scheduler's side of the GPUs: what is seen of them, what is promised there, what other users are told.

Start reading at `gpu_state.Accelerators`.
In reading order: gpu_state, reservation_exchange, settlement, gpu_accounting, attempt_memory, attempt_places, job_reservations,
shared_time, use_meter, sent_limits, gpus_file.
"""
