"""The verbs, one file each; the few that steer or describe share one. No verb imports another.

Start reading at `run.command`.
In reading order: run, add, status, top, web, logs, show, results, query, history, wait, steering, clean, gpus,
doctor, simulate, kinds, config, notify, completion, service.
"""
