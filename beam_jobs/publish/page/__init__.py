"""dataset.html, the page of a data set for people."""
