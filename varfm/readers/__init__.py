"""Readers of foreign weight files. They build tensors and nothing else, and run no code from the file."""
