"""Whether a concept is gone: rates, likeness to the teacher, null drift, recovery; real images purified.

Start reading at `measuring.measure`.
In reading order: settings, samples, recognition, rates, likeness, null_drift, recovery, verdict, real_images,
kept_curves, measuring, facts, record, sheet, table, revision.
"""
