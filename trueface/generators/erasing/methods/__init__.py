"""Methods of concept erasing, a file each: `@register_erasure` above a function of teacher and task.

Start reading at `abo.all_but_one`.
"""
