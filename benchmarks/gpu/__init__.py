"""Measurements that need a GPU, with one command: `make gpu`.

Start reading at `parts.PARTS`.
"""
