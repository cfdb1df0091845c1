"""The unlearning methods, a file each: functions decorated with `@register_method`.

A new file needs no entry elsewhere. No method imports another. Shared code is in the parent package, in
`building_blocks`, `adversarial`, `importance` and `optimization`.
Start reading at `random_labels`, the shortest.
"""
