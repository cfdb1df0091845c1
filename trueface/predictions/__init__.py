"""The predictions of a model for samples: one container, stored as CSV or npz.

Start reading at `predictions.Predictions`.
"""
