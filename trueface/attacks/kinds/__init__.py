"""Kinds of attack, found by `@register_attack`. Similar kinds are in one file.

Start reading at `gradients`.
"""
