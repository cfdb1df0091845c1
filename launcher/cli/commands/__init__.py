"""The verbs, one file each; those that add or steer have a folder. No verb imports another.

Start reading at `run.command`.
In reading order: run, adding, status, top, web, logs, show, results, query, history, wait, steering, clean, gpus,
doctor, simulate, kinds, config, notify, completion, service.
"""
