"""Kinds of attack, found by their `@register_attack`; what is nearly the same stands in one file.

Start reading at `gradients`.
"""
