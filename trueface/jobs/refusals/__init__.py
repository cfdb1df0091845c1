"""Why a job must not run, found while it is planned; no torch here.

Start reading at `training.unfit_training`.
"""
