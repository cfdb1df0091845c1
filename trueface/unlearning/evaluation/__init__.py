"""What an unlearning came to: forgotten, kept, distinguishable, ruined, beside its references.

Start reading at `measurement`.
In reading order: measurement, measures, intervals, cross_entropy, retrain_gap,
membership_inference, relearn_and_probe, embedding, sanity_checks, ruined_models, unlearned_models,
leaderboard, published.
"""
