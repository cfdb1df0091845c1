"""The unlearning methods, a file each: what `@register_method` decorates is a method.

A new file needs no entry elsewhere. No method imports another. Shared code is in the parent package, in
`building_blocks`, `adversarial`, `importance` and `optimization`.
Start reading at `random_labels`, the shortest.
"""
