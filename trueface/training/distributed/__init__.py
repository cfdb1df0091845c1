"""Training in several processes, one a GPU, which share each batch: what they exchange, and when.

Start reading at `group.ProcessGroup`.
"""
