"""The command line: one file per command, words and options only."""
