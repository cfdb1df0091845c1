"""Purifiers, found by their `@register_purifier`. Nearly identical methods share a file.

Start reading at `estimates`.
"""
