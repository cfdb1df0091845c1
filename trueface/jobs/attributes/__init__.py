"""The groups of a job's images: read, checked, and given to the batches of a training.

Start reading at `columns.give_groups`.
"""
