"""From files to rows: one module for each file format."""
