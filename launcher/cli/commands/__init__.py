"""The verbs, one file each; those that add or steer have a folder. No verb imports another.

Start reading at `run.command`.
"""
