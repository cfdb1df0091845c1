"""The losses of the objective `fairnet` that are of pairs, a real image and a fake each.

Start reading at `pairs`.
"""
