"""The operating system: processes, files, memory, config.toml and terminals. Nothing here knows jobs.

`errors` has the errors that users see, `units` sizes and times, and `text_table` lines of text.
Start reading at `files.write_atomic`, then `processes`.
"""
