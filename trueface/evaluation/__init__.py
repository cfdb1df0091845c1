"""From images to scores, from scores to measures with intervals, from two models to a test.

Start reading at `inference.evaluate`, then `metrics.measure`.
In reading order: inference, predict, predictions, score_tables, metrics, weighted_metrics, curves,
bootstrap, source_variance, source_intervals, operating_point, results, result_rows, comparison,
comparison_input, significance.
"""
