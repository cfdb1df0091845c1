"""The scheduler: ends what ended, decides what starts, starts it. One process per home.

Start reading at `loop`, then `policy.decide`.
In reading order: __main__, loop, turn, model, policy, inventory, gpu_pool, gpu_slot, backfill,
feasibility, explanations, gpu_state, gpu_accounting, start_jobs, spawn_outage, attempt_watch,
unrecorded_attempts, ended_attempts, oom_policy, requeue_policy.
"""
