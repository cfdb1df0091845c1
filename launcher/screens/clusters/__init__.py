"""What people see of backends and pilots: which there are, their nodes and GPUs, what waits for them.

Start reading at `pilots_now.seen_pilots`.
In reading order: pilots_now, pilot_gpus, pilots_view, backend_prospects.
"""
