"""The settings of a conversion, its secret key, and what each runner needs."""
