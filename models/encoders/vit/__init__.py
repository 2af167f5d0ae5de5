"""Vision Transformers: their shape, the network, its published names, and a declared one."""
