"""What detectors are worth under corruptions and attacks, on data that they know or do not know.

Pure: values in, values out; the jobs in trueface/jobs/benchmark score images.
Start reading at `leaderboard.leaderboard`.
"""
