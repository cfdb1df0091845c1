"""The methods of intervals. Only `evaluation.estimates` uses them; other modules call that one."""
