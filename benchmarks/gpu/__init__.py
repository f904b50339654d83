"""What is measured on GPUs, with random weights of the published shapes: this project beside the bare engine."""
