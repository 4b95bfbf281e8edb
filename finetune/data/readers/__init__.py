"""Files → rows: one module for each file format."""
