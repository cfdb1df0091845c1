"""From images to scores, from scores to measures with intervals, from two models to a test.

Start reading at `inference.evaluate`, then `measurement.measure`.
In reading order: inference, attacked, predictions, score_tables, measurement, metric, metrics,
metric_registry, weighted_scores, calibration, operating_threshold, curves, bootstrap,
source_variance, bounded_intervals, source_intervals, operating_point, videos, tested_sets, results,
result_rows, comparison, fairness, qualities, images, published.
"""
