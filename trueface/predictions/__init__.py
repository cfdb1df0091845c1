"""What a model predicts for samples: one container, stored as CSV or npz.

Start reading at `predictions.Predictions`.
"""
