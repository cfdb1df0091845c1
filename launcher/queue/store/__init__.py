"""The queue on disk, and the only place with SQL.

Start reading at `queue.Store`.
"""
