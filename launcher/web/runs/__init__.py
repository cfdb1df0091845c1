"""What pages show of runs: results, pictures, and which runs have a setting.

Start reading at `background.RunReader`.
In reading order: background, run_data, comparison, result_table, settings_index, run_filter, pictures,
figures.
"""
