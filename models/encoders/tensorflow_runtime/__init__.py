"""TensorFlow as a runtime: a SavedModel becomes an encoder."""
