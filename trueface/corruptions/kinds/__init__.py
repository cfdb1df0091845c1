"""Kinds of corruption, found by `@register_corruption`. Similar kinds are in one file.

Start reading at `codecs`.
"""
