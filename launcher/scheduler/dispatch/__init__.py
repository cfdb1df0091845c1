"""Attempts that run on pilots: which jobs go there, how they are sent, watched, taken over, and given up.

Start reading at `dispatch.Dispatch`.
"""
