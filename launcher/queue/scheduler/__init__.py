"""The scheduler: ends what ended, decides what starts, starts it. One process per home.

Start reading at `loop`, then `policy.decide.decide`.
"""
