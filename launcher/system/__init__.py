"""Facts about the operating system, and small files: nothing here knows of jobs.

Start reading at `paths.Home`, then `files.write_atomic`.
In reading order: paths, files, processes, process_tree, memory, quotas, cgroups, text, run_command,
environment, stored_fields, config, gpu_sharing, home_checks, scheduler_lock, daemon_control, wakeup,
error_log, git, code_forms, code_elements, code_links, code_digests.
"""
