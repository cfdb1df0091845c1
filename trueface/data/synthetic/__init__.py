"""A synthetic image set: scenes, and the fingerprints that generators and networks leave.

Start reading at `generate.make_sample`.
"""
