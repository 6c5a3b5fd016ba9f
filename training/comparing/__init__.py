"""Several runs: the spread over seeds, differences, and the table of the paper."""
