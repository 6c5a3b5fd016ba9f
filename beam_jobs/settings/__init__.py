"""What a conversion was asked for, its secret key, and what each runner needs."""
