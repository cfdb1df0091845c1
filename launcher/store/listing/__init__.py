"""Lists of jobs and of runs, page by page: for screens that scroll through a queue of any length.

Start reading at `job_listing.JobListing`.
"""
