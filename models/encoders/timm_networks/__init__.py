"""timm's networks as encoders."""
