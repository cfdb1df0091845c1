"""From images to scores, from scores to measures with intervals, from two models to a test.

Start reading at `inference.evaluate`, then `measurement.evaluate_scores`.
"""
