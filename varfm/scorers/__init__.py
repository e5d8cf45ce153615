"""Scorers: which haplotypes are compared, and how."""
