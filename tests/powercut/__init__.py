"""Power cuts: a run is recorded write by write, and the queue is opened as each cut would leave it."""
