"""Reading and writing variants and scores."""
