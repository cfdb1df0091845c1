"""How well a detector does on one set of images saved in several qualities: each, mean, worst, pooled.

A quality is the corruption of a test: raw, jpeg75, half+jpeg30. All qualities are of the same images,
so that resamples are the same for all of them and for every model.
Start reading at `run.quality_rows`.
"""
