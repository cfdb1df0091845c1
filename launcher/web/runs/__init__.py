"""What pages show of runs: results, pictures, and which runs have a setting.

Start reading at `run_data.Background`.
"""
