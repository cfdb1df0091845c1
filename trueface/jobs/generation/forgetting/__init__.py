"""Jobs about what a diffuser has forgotten: its measures, and real images drawn anew by it.

Start reading at `erased.erased`.
"""
