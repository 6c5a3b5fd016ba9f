"""One module per question. Each prints a table and writes JSON. The figures to quote are ratios within one run."""
