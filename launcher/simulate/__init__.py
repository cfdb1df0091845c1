"""What a schedule would have been: traces and task files, replayed with the scheduler's policy.

Start reading at `study.study`.
In reading order: study, parallel, workload, trace, plan_jobs, fleet, replay, queue_policy, node, patience, claims,
user_shares, others, lower_bound, width_bound, predictions, slowdown, outcome, report, picture.
"""
