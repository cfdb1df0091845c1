"""A task file's entries, expanded into steps: one for each job, in the order in which they run.

Start reading at `expansion.expand`.
In reading order: expansion, step, folder_entries, folder_sources, doubles, named_steps, file_order,
program_folders, phases.
"""
