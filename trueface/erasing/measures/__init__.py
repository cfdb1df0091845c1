"""Whether a concept is gone: rates, likeness to the teacher, null drift, recovery; real images purified.

Start reading at `measuring.measure`.
"""
