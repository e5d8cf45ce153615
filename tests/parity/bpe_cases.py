"""Sequences for networks with byte-pair tokens, and small tokenizers of the two published kinds to cut them with."""

from __future__ import annotations

from typing import Any

import numpy as np

SEED = 60
READ = (0, 1, 7, -9, -2, -1)
"""Tokens of each sequence whose answers are recorded."""


def sequences(longest: int) -> list[str]:
    """Give inputs of odd and even lengths: random bases, some in lower case, N alone and in runs, and repeats."""
    generator = np.random.RandomState(SEED)
    letters = ["".join(generator.choice(list("ACGT"), length)) for length in (61, 128, longest, longest - 7)]
    return [
        *letters,
        letters[1][:30] + "NNnN" + letters[1][34:],
        letters[1][:50] + "N" * 23 + letters[1][73:] + "N" * 10,
        letters[0][:20].lower() + letters[0][20:],
        "A" * 77,
        "CG" * (longest // 2) + "C",
    ]


def trained(kind: str, n_vocabulary: int) -> Any:
    """Train a tokenizer as the authors of `dnabert2` or `gena_lm` set theirs up, with the package tokenizers."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    if kind == "gena_lm":
        special.append("-")
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Strip(), normalizers.Replace(Regex("N{10,}"), "-")],
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Split("-", "isolated")
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    generator = np.random.RandomState(SEED + 1)
    text = ["".join(generator.choice(list("ACGT"), 3000, p=(0.35, 0.15, 0.15, 0.35)))]
    letters = "ACGTN" if kind == "gena_lm" else "ACGT"
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocabulary, special_tokens=special, initial_alphabet=list(letters), show_progress=False
    )
    tokenizer.train_from_iterator([*text, "ACGTN" * 20] if kind == "gena_lm" else text, trainer)
    return tokenizer
