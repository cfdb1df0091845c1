"""What people see of backends and pilots: which there are, their nodes and GPUs, what waits for them.

Start reading at `pilots_now.seen_pilots`.
"""
