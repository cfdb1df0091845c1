"""The scheduler: ends what ended, decides what starts, starts it. One process per home.

Start reading at `loop`, then `policy.decide.decide`.
In reading order: __main__, loop, turn, running_attempts, admission, gpu_state, settlement, sent_limits, gpus_file,
gpu_accounting, shared_time, use_meter, start_jobs, attempt_watch, unrecorded_attempts, ended_attempts, policy,
oom_policy, requeue_policy, run_turns, chosen_policy, remote.
"""
