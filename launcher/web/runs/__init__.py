"""What pages show of runs: results, pictures, and which runs have a setting.

Start reading at `background.Background`.
In reading order: background, run_data, comparison, result_table, settings_index, run_filter, pictures,
figures.
"""
