"""A benchmark of detectors under corruptions and attacks, on known and unknown data.

Pure: values in, values out; the jobs in trueface/jobs/benchmark score images.
Start reading at `leaderboard.leaderboard`.
"""
