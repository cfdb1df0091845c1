"""The command `trueface`: every command here and now, without the queue.

Start reading at `main.run`.
In reading order: main, run_here, run_job, classes, import_set, splits, split_lists, predict, pretrain,
prediction, compare, measures, generation, audit, report, benchmark, benchmark_text, leaderboard,
leaderboard_columns, text_tables, exit_codes, required_packages, classic.
"""
