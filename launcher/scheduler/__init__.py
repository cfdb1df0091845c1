"""The scheduler: ends what ended, decides what starts, starts it. One process per home.

Start reading at `loop`, then `policy.decide.decide`.
In reading order: __main__, loop, turn, requests, attempt_news, running_attempts, admission, succession, gpus, start_jobs,
attempt_watch, unrecorded_attempts, endings, policy, run_turns, chosen_policy, remote.
"""
