"""From a task file's entries to the jobs of a run, and from those to the queue.

Start reading at `load.plan`.
In reading order: load, expanding, model_requests, model_graph, model_problems, identity, plan,
plan_builder, planned_job, poison_draws, dependencies, code_changes, queue_comparison, sharing,
submit, revising, estimates, first_wave, preview, pilot_preview, missing_packages, machine_state, export.
"""
