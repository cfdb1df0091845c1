"""Purifiers, found by their `@register_purifier`; what is nearly the same stands in one file.

Start reading at `estimates`.
"""
