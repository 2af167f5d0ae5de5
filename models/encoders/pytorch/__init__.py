"""PyTorch as a runtime: device, checkpoint, batches, and an encoder around a network."""
