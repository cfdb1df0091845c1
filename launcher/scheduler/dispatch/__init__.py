"""Attempts that run on pilots: which jobs go there, how they are sent, watched, taken over, and given up.

In reading order: dispatch, placement, pilot_machine, pilot_places, pilot_gpus, kept_places, demand, sending, node_paths,
hearing, attempts_elsewhere, configured.
Start reading at `dispatch.Dispatch`.
"""
