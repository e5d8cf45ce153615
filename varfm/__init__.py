"""Score the variants of a VCF with published DNA sequence models.

For example:

    import varfm

    with varfm.score("in.vcf.gz", "GRCh38.fa", model="mini") as results:
        for result in results:
            print(result.contig, result.pos, result.ref, result.alt, result.status, result.scores)

    frame = varfm.score("in.vcf.gz", "GRCh38.fa").frame()
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:  # importing the package must load neither torch nor pandas
    from varfm.api import Results
    from varfm.models import ModelOptions
    from varfm.protocols import Model
    from varfm.session import SessionOptions

__all__ = ["__version__", "list_models", "load_model", "score"]


def score(
    vcf: str,
    fasta: str | None = None,
    *,
    model: str = "mini",
    genes: str | None = None,
    options: SessionOptions | None = None,
) -> Results:
    """Score the variants of a VCF with one model.

    Args:
        vcf: Path of a VCF (text, gzip, BGZF) or BCF.
        fasta: Path of the reference that the VCF was called on; None: the VCF's `##reference=` if that file exists.
        model: Catalogue name, see `list_models`.
        genes: Gene annotation, for models that are anchored on genes.
        options: Everything else that `varfm score` can be told, by `varfm.session.SessionOptions`; its `vcf`, `fasta`,
            `models` and gene file are replaced by the arguments above.

    Returns:
        An iterator over one result per allele (and gene), also a context manager, with `frame()` for a pandas frame.

    Raises:
        varfm.errors.VarfmError: One of its children, if an input, the model or the device cannot be used.
    """
    from varfm.api import open_results

    return open_results(vcf, fasta, model, genes, options)


def load_model(name: str, options: ModelOptions | None = None) -> Model:
    """Load a model by its catalogue name: its network, its scorer and what is known of its weights.

    Raises:
        varfm.errors.ModelError: If the name is unknown, or the weights are missing, damaged or do not fit.
    """
    from varfm.models import load

    return load(name, options)


def list_models() -> list[str]:
    """Give the catalogue names of all models."""
    from varfm.models import catalog

    return [checkpoint.name for checkpoint in catalog.listed()]
