"""How far jobs are: reports by workers and programs, and the curves that they make.

Start reading at `attempt_progress.newest`.
In reading order: writer, steps, growing_files, printed_lines, tqdm_bars, event_records, event_files,
last_line, attempt_progress, curves.
"""
