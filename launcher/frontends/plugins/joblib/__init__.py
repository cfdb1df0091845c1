"""joblib's backend `launcher`: batches of calls are jobs of the queue. Start reading at `registration`."""
