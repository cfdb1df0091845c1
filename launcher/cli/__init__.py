"""The command line: `main` finds the verb in `commands` and turns errors into exit codes.

Start reading at `main.main`.
In reading order: main, appearance, option_defaults, commands, doctor, select_jobs, option_types,
prompts, output, log_output, dry_run, engine_estimates, plain_rows, run_results, group_rows, live, missing_programs,
clean_features, left_pilots, usage_errors, complete.
"""
