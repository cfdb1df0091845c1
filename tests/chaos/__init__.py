"""The proof that the queue loses nothing and runs nothing twice, made by killing all of it."""
