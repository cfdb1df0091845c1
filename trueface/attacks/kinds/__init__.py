"""One file for each kind of attack, found by its `@register_attack`.

Start reading at `fgsm`.
"""
