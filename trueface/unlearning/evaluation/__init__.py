"""Measures of an unlearning: forgotten, retained, membership, ruined models, beside references.

Start reading at `measurement`.
In reading order: measurement, measures, intervals, cross_entropy, retrain_gap,
membership_inference, membership_samples, relearn_and_probe, embedding, sanity_checks, ruined_models,
paired_answers, unlearned_models, leaderboard, published.
"""
