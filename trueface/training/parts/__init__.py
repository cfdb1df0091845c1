"""The features of a training, a part each: what it does on the way from lists to weights, what it tells of it.

Start reading at `protocol.Part`; `registry` has what plans know of them.
"""
