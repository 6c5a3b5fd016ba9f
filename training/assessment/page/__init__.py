"""What a reader is told of an evaluation: report.html and model_card.md."""
