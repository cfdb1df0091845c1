"""Attempts that run on pilots: how they are sent there, watched, taken over, and given up with their pilot.

In reading order: link.
Start reading at `link.PilotLink`: the scheduler's end of the two files of a pilot.
"""
