"""Jobs on a cluster whose parts are killed, frozen and deceived: python -m tests.clusters, `make clusters`."""
