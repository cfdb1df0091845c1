"""A synthetic image set: scenes, and the traces that generators and networks leave.

Start reading at `generate.make_sample`.
In reading order: generate, scenes, fingerprints, social_networks.
"""
