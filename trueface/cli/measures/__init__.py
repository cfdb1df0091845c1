"""`trueface fairness` and `trueface qualities`: measures of a run's tests beyond `launcher results`.

Start reading at `fairness.fairness`.
"""
