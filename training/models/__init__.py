"""The networks, their recipes, and what each kind of label asks of them."""
