"""One file for each purifier, found by its `@register_purifier`.

Start reading at `oneshot`.
"""
