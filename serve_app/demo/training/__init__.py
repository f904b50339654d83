"""Makes the demo checkpoints: data, training and evaluation. Not part of the wheel."""
