"""The unlearning methods, a file each: what `@register_method` decorates is a method.

A new file needs no entry elsewhere. None imports another: what several methods need lies beside this
folder, in `building_blocks`, `adversarial`, `importance` and `optimization`.
Start reading at `random_labels`, the shortest.
"""
