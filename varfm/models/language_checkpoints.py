"""The published DNA language models: one record per checkpoint."""

from __future__ import annotations

from varfm.checkpoints import Checkpoint
from varfm.download import RemoteFile

_HUB = "https://huggingface.co"
_BOTH = "both, scores averaged"
_LLR = "LLR of the masked allele, LLR_INDEL for other lengths"


def _gpn(variant: str, revision: str, sha256: str | None, about_bytes: int, **words: str) -> Checkpoint:
    name = f"gpn-{variant}"
    folder = f"{_HUB}/songlab/{name}/resolve/{revision}"
    return Checkpoint(
        name=name,
        module="gpn",
        variant="" if variant == "brassicales" else variant,
        files=(
            RemoteFile("model.safetensors", (f"{folder}/model.safetensors",), sha256, None),
            _config(folder),
            RemoteFile("tokenizer.json", (f"{folder}/tokenizer.json",), None, None, role="data"),
        ),
        about_bytes=about_bytes,
        licence="MIT",
        commercial=True,
        source="https://github.com/songlab-cal/gpn",
        window=512,
        index=256,
        reads="masked bases",
        scores=_LLR,
        strands=_BOTH,
        likelihood="masked",
        verified="answers and SNV scores of the authors' code on the same random weights",
        parameters=65_880_071 if variant == "brassicales" else 152_189_952,
        paper=words["paper"],
        assembly=words["assembly"],
    )


def _phylogpn() -> Checkpoint:
    folder = f"{_HUB}/songlab/PhyloGPN/resolve/3556db4c469e67d25f0f7a0a6653b48be3eebf51"
    return Checkpoint(
        name="phylogpn",
        module="phylogpn",
        files=(RemoteFile("model.safetensors", (f"{folder}/model.safetensors",), None, None), _config(folder)),
        about_bytes=4 * 83_185_924,
        licence="CC (the authors do not say which)",
        commercial=False,
        paper="Albors et al., RECOMB 2025, doi:10.1007/978-3-031-90252-9_7",
        source="https://github.com/songlab-cal/gpn",
        assembly="GRCh38",
        window=512,
        index=256,
        reads="log rates of the bases at a position",
        scores="LLR of the allele where the reference stands; alleles of REF's length only",
        strands=_BOTH,
        likelihood="seen",
        adaptable=False,
        verified="the authors' class; same random weights, 2e-6",
        parameters=83_185_924,
    )


_PLL = "PLL over the tokens that changed"
_GENA_T2T = ("440cec76fcec5288d10f70b64f3f59289fe313dd1b6fc42bcf0fac319297dc3d", 1_476_210)
_GENA_V1 = ("2fdbfdf74f08e8b98acc63e5a36c36d2ef44cf688f9485d95dde76acb6bd3034", 1_538_643)
_TINY_SHA256 = "5ce2146c21e9c4baa6bddc4998fd3d029903ae84a563bf80218644082194a12d"
_TINY_REVISION = "e8c1effa8673814e257e627d2e1eda9ea5a373f6"


def _hyenadna(variant: str, parameters: int, n_floats: int, window: int = 4096) -> Checkpoint:
    """Describe a HyenaDNA; most of a file's floats are tables of positions, which are not learned."""
    name = f"hyenadna-{variant}"
    is_tiny = variant == "tiny-1k-seqlen"
    folder = f"{_HUB}/LongSafari/{name}-hf/resolve/{_TINY_REVISION if is_tiny else 'main'}"
    return Checkpoint(
        name=name,
        module="hyenadna",
        variant=variant.replace("-seqlen", ""),
        files=(
            RemoteFile("model.safetensors", (f"{folder}/model.safetensors",), _TINY_SHA256 if is_tiny else None, None),
            _config(folder),
        ),
        about_bytes=4 * n_floats,
        licence="BSD-3-Clause",
        commercial=True,
        paper="Nguyen et al., NeurIPS 2023, arXiv:2306.15794",
        source="https://github.com/HazyResearch/hyena-dna",
        assembly="GRCh38",
        window=window,
        index=3 * window // 4,
        reads="single bases from left to right",
        scores="LL difference of the window",
        strands=_BOTH,
        likelihood="causal",
        verified="the authors' class; same random weights, 6e-7",
        parameters=parameters,
    )


def _caduceus(
    name: str, variant: str, revision: str, parameters: int, digests: tuple[str | None, str | None] = (None, None)
) -> Checkpoint:
    folder = f"{_HUB}/kuleshov-group/{name}/resolve/{revision}"
    window = 1024 if "1k" in variant else 4096
    return Checkpoint(
        name=name,
        module="caduceus",
        variant=variant,
        files=(
            RemoteFile("model.safetensors", (f"{folder}/model.safetensors",), digests[0], None),
            _config(folder, digests[1]),
        ),
        about_bytes=4 * parameters,
        licence="Apache-2.0 (of the code)",
        commercial=True,
        paper="Schiff et al., ICML 2024, arXiv:2403.03234",
        source="https://github.com/kuleshov-group/caduceus",
        assembly="GRCh38",
        window=window,
        index=window // 2,
        reads="masked bases",
        scores=_LLR,
        strands="both in one pass" if variant == "ps" else _BOTH,
        likelihood="masked",
        verified="the authors' class with the kernels' reference functions; same random weights, 2e-6",
        parameters=parameters,
    )


def _dnabert2() -> Checkpoint:
    folder = f"{_HUB}/zhihan1996/DNABERT-2-117M/resolve/main"
    return Checkpoint(
        name="dnabert-2-117m",
        module="dnabert2",
        files=(
            RemoteFile(
                "pytorch_model.bin",
                (f"{folder}/pytorch_model.bin",),
                "7ff39ec77a484dd01070a41bfd6e95cdd7247bec80fe357ab43a4be33687aeba",
                468_354_983,
            ),
            _config(folder),
            _tokenizer(folder, "5d178e8ce2ba55df97fff197f4b30f40133b95d7096be398c2df6b526c5d8cd3", 167_908),
        ),
        about_bytes=468_354_983,
        licence="Apache-2.0 (of the code)",
        commercial=True,
        paper="Zhou et al., ICLR 2024, arXiv:2306.15006",
        source="https://github.com/MAGICS-LAB/DNABERT_2",
        assembly="",
        window=1000,
        index=500,
        reads="masked byte-pair tokens",
        scores=_PLL,
        strands=_BOTH,
        likelihood="tokens",
        verified="the authors' class (MosaicBERT); same random weights, 3e-6",
        parameters=117_074_176,
    )


def _gena(name: str, variant: str, parameters: int, *, is_first: bool = False) -> Checkpoint:
    folder = f"{_HUB}/AIRI-Institute/{name}/resolve/main"
    return Checkpoint(
        name=name,
        module="gena_lm",
        variant=variant,
        files=(
            RemoteFile("pytorch_model.bin", (f"{folder}/pytorch_model.bin",), None, None),
            _config(folder),
            _tokenizer(folder, *(_GENA_V1 if is_first else _GENA_T2T)),
        ),
        about_bytes=4 * parameters,
        licence="MIT (of the code)",
        commercial=True,
        paper="Fishman et al., Nucleic Acids Research 53 (2025) gkae1310, doi:10.1093/nar/gkae1310",
        source="https://github.com/AIRI-Institute/GENA_LM",
        assembly="",
        window=1000,
        index=500,
        reads="masked byte-pair tokens",
        scores=_PLL,
        strands=_BOTH,
        likelihood="tokens",
        verified="the authors' class; same random weights, 6e-7",
        parameters=parameters,
    )


def _nucleotide_transformer(
    name: str, variant: str, parameters: int, sha256: str | None = None, *, k: int = 6, pickled: bool = False
) -> Checkpoint:
    repository = name.replace("nt-", "nucleotide-transformer-")
    folder = f"{_HUB}/InstaDeepAI/{repository}/resolve/main"
    file = "pytorch_model.bin" if pickled else "model.safetensors"
    return Checkpoint(
        name=name,
        module="nucleotide_transformer",
        variant=variant,
        files=(
            RemoteFile(file, (f"{folder}/{file}",), sha256, None),
            _config(folder),
        ),
        about_bytes=4 * parameters,
        licence="CC-BY-NC-SA-4.0",
        commercial=False,
        paper="Dalla-Torre et al., Nature Methods 22 (2025) 287-297, doi:10.1038/s41592-024-02523-z",
        source="https://github.com/instadeepai/nucleotide-transformer",
        assembly="",
        window=5994,
        index=2997,
        reads=f"masked {k}-mers that do not overlap",
        scores=f"LLR of the {k}-mer; alleles of REF's length only",
        strands=_BOTH,
        likelihood="frames",
        verified="the authors' JAX network; same random weights, 3e-6"
        if variant.startswith("v2")
        else "transformers' EsmForMaskedLM; same random weights, 2e-6",
        parameters=parameters,
    )


def _dnabert(k: int, parameters: int) -> Checkpoint:
    folder = f"{_HUB}/zhihan1996/DNA_bert_{k}/resolve/main"
    return Checkpoint(
        name=f"dnabert-{k}",
        module="dnabert",
        variant=str(k),
        files=(
            RemoteFile("pytorch_model.bin", (f"{folder}/pytorch_model.bin",), None, None),
            _config(folder),
        ),
        about_bytes=4 * parameters,
        licence="Apache-2.0 (of the code)",
        commercial=True,
        paper="Ji et al., Bioinformatics 37 (2021) 2112-2120, doi:10.1093/bioinformatics/btab083",
        source="https://github.com/jerryji1993/DNABERT",
        assembly="GRCh38",
        window=512,
        index=256,
        reads=f"overlapping {k}-mers, all over a base masked",
        scores=_LLR,
        strands=_BOTH,
        likelihood="masked",
        verified="the authors' class; same random weights, 6e-7",
        parameters=parameters,
    )


def _dnagpt(variant: str, parameters: int) -> Checkpoint:
    """Describe a DNAGPT; its files are fetched by hand from the address in the authors' README."""
    return Checkpoint(
        name=f"dnagpt-{variant.replace('_', '-')}",
        module="dnagpt",
        variant=variant,
        files=(RemoteFile(f"dna_gpt{variant}.pth", (), None, None),),
        about_bytes=4 * parameters,
        licence="PolyForm-Noncommercial-1.0.0 (of the code)",
        commercial=False,
        paper="Zhang et al., bioRxiv (2023), doi:10.1101/2023.07.11.548628",
        source="https://github.com/TencentAILabHealthcare/DNAGPT",
        assembly="",
        window=3060,
        index=1530,
        reads="6-mers from left to right",
        scores="LL difference of the window",
        strands=_BOTH,
        likelihood="causal",
        verified="the authors' class and tokenizer; same random weights, 8e-7",
        parameters=parameters,
    )


def _tokenizer(folder: str, sha256: str, size: int) -> RemoteFile:
    return RemoteFile("tokenizer.json", (f"{folder}/tokenizer.json",), sha256, size, role="data")


def _config(folder: str, sha256: str | None = None) -> RemoteFile:
    return RemoteFile("config.json", (f"{folder}/config.json",), sha256, None, role="data")


LANGUAGE_CHECKPOINTS = (
    _gpn(
        "brassicales",
        "eb9c35d0d18571abe84390d22e74f2b21d319ce3",
        "713ef126033cef9b1884254aecc5f7bba2083abd23ef6c9dcc049d2eb4414f8d",
        264_000_000,
        paper="Benegas, Batra and Song, PNAS 120 (2023) e2311219120, doi:10.1073/pnas.2311219120",
        assembly="",
    ),
    _gpn(
        "animal-promoter",
        "f8cf7f32913d3847943aeb0f30a6d6bc3b778e55",
        None,
        609_000_000,
        paper="Benegas, Eraslan and Song, bioRxiv (2025), doi:10.1101/2025.02.11.637758",
        assembly="",
    ),
    _phylogpn(),
    _dnabert(3, 86_095_941),
    _dnabert(4, 86_243_589),
    _dnabert(5, 86_834_181),
    _dnabert(6, 89_196_549),
    _dnabert2(),
    _nucleotide_transformer("nt-500m-human-ref", "500m", 485_700_000),
    _nucleotide_transformer("nt-500m-1000g", "500m", 485_700_000),
    _nucleotide_transformer("nt-2.5b-1000g", "2.5b", 2_547_800_000),
    _nucleotide_transformer("nt-2.5b-multi-species", "2.5b", 2_547_800_000),
    _nucleotide_transformer("nt-v2-50m-multi-species", "v2-50m", 55_905_164),
    _nucleotide_transformer("nt-v2-100m-multi-species", "v2-100m", 97_889_484),
    _nucleotide_transformer("nt-v2-250m-multi-species", "v2-250m", 235_121_356),
    _nucleotide_transformer("nt-v2-500m-multi-species", "v2-500m", 498_346_364),
    _nucleotide_transformer("agro-nt-1b", "agro-1b", 991_300_000, pickled=True),
    _gena("gena-lm-bert-base", "", 110_650_880, is_first=True),
    _gena("gena-lm-bert-base-t2t", "", 110_650_880),
    _gena("gena-lm-bert-base-t2t-multi", "", 110_650_880),
    _gena("gena-lm-bert-base-lastln-t2t", "lastln", 110_652_416),
    _gena("gena-lm-bert-large-t2t", "large", 336_691_456),
    _gena("gena-lm-bigbird-base-t2t", "bigbird", 113_403_392),
    _caduceus("caduceus-ph_seqlen-131k_d_model-256_n_layer-16", "ph", "main", 7_725_312),
    _caduceus(
        "caduceus-ps_seqlen-131k_d_model-256_n_layer-16",
        "ps",
        "d89eeb853136ea64da7feb3d0c8e909771b17ae6",
        7_725_312,
        (
            "a3e6976fe90460ff5d90d371b457d0263dc65e156ea5651b4a452e98228daef2",
            "d0f8eaf9d62370ffae2d41c92d00b9424fae31c823baf21111602dabc35eef45",
        ),
    ),
    _caduceus(
        "caduceus-ph_seqlen-1k_d_model-256_n_layer-4_lr-8e-3",
        "ph-1k",
        "9865108985311772704c2ece0bac082153a6167b",
        1_934_592,
        (
            "7180a75f6cb08029309eda31d85b45623c7f095cc83f0f797c5a34b64f1f70de",
            "4bcbb5df87ce19bf281acf5081d1ca7071bbe0c71f91429c8e7cd646105a5d09",
        ),
    ),
    _dnagpt("0.1b_h", 113_925_120),
    _dnagpt("0.1b_m", 117_170_688),
    _dnagpt("3b_m", 3_113_922_560),
    _hyenadna("tiny-1k-seqlen", 438_144, 450_712, window=1000),
    _hyenadna("tiny-1k-seqlen-d256", 1_645_184, 1_658_008, window=1000),
    _hyenadna("tiny-16k-seqlen-d128", 438_144, 635_032),
    _hyenadna("small-32k-seqlen", 3_281_664, 4_069_168),
    _hyenadna("medium-160k-seqlen", 6_554_624, 14_236_768),
    _hyenadna("medium-450k-seqlen", 6_554_624, 28_156_768),
    _hyenadna("large-1m-seqlen", 6_554_624, 54_556_768),
)
"""In the order of the documentation."""
