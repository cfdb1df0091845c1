"""The command `trueface`: every command here and now, without the queue.

Start reading at `main.run`.
In reading order: main, run_here, run_job, classes, splits, split_lists, predict, model_choice,
prediction_output, heat_maps, torchvision_import, pretrain, compare, audit, report,
leaderboard, leaderboard_columns, text_tables, exit_codes, required_packages, classic.
"""
