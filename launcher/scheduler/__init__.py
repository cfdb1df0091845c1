"""The scheduler: ends what ended, decides what starts, starts it. One process per home.

Start reading at `loop`, then `policy.decide.decide`.
In reading order: __main__, loop, turn, sleep, requests, attempt_news, running_attempts, admission, pauses,
startable_jobs, waiting_line, succession, gpus, start_jobs, attempt_watch, unrecorded_attempts, dispatch, remote, endings, policy,
run_turns, chosen_policy, notifier.
"""
