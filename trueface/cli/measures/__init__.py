"""`trueface fairness` and `trueface qualities`: measures of a run's tests beyond `launcher results`.

Start reading at `fairness.fairness`.
In reading order: fairness, fairness_text, qualities, qualities_text, run_tests, long_table,
page_option.
"""
