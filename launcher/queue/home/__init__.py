"""The queue folder: its paths, the checks of it, and how its scheduler is found, started and locked.

Start reading at `paths.Home`.
"""
