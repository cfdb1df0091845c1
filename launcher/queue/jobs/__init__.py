"""A job as a value: its specification, environment, parameters, states and usage.

Start reading at `job.Spec`, then `states`.
"""
