"""Jobs about what a diffuser has forgotten: its measures, and real images drawn anew by it.

Start reading at `erased.erased`.
In reading order: erased_kind, erased, revise_kind, revise.
"""
