"""Kinds of corruption, found by their `@register_corruption`; what is nearly the same stands in one file.

Start reading at `codecs`.
"""
