"""The picture of a schedule: what ran where and when, and how many waited.

Start reading at `timeline.draw_timeline`.
"""
