"""How the authors of Nucleotide Transformer cut a sequence: what their ids, recorded in tests, are compared with.

Source: github.com/instadeepai/nucleotide-transformer, nucleotide_transformer/tokenizers.py, commit 2dc37b8.
"""

from __future__ import annotations

import re

from varfm.encoding.kmers import KmersInFrame


def greedy_words(letters: str, k: int) -> list[str]:
    """Give the tokens: k-mers that begin anew after an N, and one by one what is left before it; others read as N."""
    known = re.sub("[^ACGT]", "N", letters.upper())
    return ["<cls>", *re.findall(rf"[ACGT]{{{k}}}|[ACGTN]", known)]


def greedy_ids(tokenizer: KmersInFrame, letters: str) -> list[int]:
    """Give the ids of these tokens, by their places in varfm's vocabulary."""
    numbers = {word: number for number, word in enumerate(tokenizer.vocabulary())}
    return [numbers[word] for word in greedy_words(letters, tokenizer.k)]
