"""One file for each kind of corruption, found by its `@register_corruption`.

Start reading at `jpeg`.
"""
