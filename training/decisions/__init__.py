"""What follows from probabilities: a threshold, calibrated probabilities, and those for another prior."""
