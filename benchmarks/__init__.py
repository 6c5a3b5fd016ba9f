"""One module a question. Each prints a table and writes JSON; figures are ratios taken within one run."""
