"""Score the variants of a VCF with published DNA sequence models."""

__version__ = "0.1.0"
