"""The networks by name, their weights and their checkpoints.

Start reading at `registry`.
"""
