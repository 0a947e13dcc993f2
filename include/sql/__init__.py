"""SQL by layer: migrations, core, dimensions, marts, ops."""
