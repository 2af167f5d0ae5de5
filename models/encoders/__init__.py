"""The models: what each declares about itself, and how each is loaded."""
