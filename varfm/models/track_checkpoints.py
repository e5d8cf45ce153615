"""The part of the catalogue with many tracks: their tables, and several files each. Nothing here imports torch."""

from __future__ import annotations

from importlib import resources
from typing import Literal

from varfm.checkpoints import Checkpoint
from varfm.download import RemoteFile

# Addresses name the commit where there is one, so that a push upstream cannot change what is fetched.
_GITHUB = "https://raw.githubusercontent.com"
_KIPOI = f"{_GITHUB}/kipoi/models/06bfe84758b996d06f7f604b29e5b0342a700551"
_BASSET = f"{_GITHUB}/davek44/Basset/71cd8016b28b33e40357cac59ba5fbade3692ac2"
_CROSS2020 = f"{_GITHUB}/calico/basenji/7c6aa70dad95f1877e24d961d9aa3574d7a816ec/manuscripts/cross2020"  # tag 0.5
_EXPECTO = f"{_GITHUB}/FunctionLab/ExPecto/1b89458691e4dd86192c6ea93ad4bc02910a4df2"
_SEI = f"{_GITHUB}/FunctionLab/sei-framework/1e16bff9b1618af7065a23f82c4a3bb82aaeb689"
_BUCKET_131K = "https://storage.googleapis.com/131k"
_BARNYARD = "https://storage.googleapis.com/basenji_barnyard2"
_SONNET = "https://storage.googleapis.com/dm-enformer/models/enformer/sonnet_weights"
_ENFORMER_HUB = "https://tfhub.dev/deepmind/enformer/1"
_ZENODO = "https://zenodo.org/record"
_PRINCETON = "https://deepsea.princeton.edu/media/code"

_PRINCETON_LICENCE = "Princeton Academic Use Software Agreement, no redistribution"
_BELUGA_PAPER = "Zhou et al., Nature Genetics 50 (2018) 1171-1179, doi:10.1038/s41588-018-0160-6"
_BASENJI2_PAPER = "Kelley, PLoS Computational Biology 16 (2020) e1008050, doi:10.1371/journal.pcbi.1008050"
_ENFORMER_PAPER = "Avsec et al., Nature Methods 18 (2021) 1196-1203, doi:10.1038/s41592-021-01252-x"


def _table(name: str, url: str, sha256: str | None, size: int | None) -> RemoteFile:
    return RemoteFile(name, (url,), sha256, size, role="table")


_CROSS2020_TABLES = {
    "human": _table(
        "targets_human.txt",
        f"{_CROSS2020}/targets_human.txt",
        "d90233175a9fec389e5ac04cc4aac8cfc08c4aa86217e2e5c10221de78023580",
        800_919,
    ),
    "mouse": _table(
        "targets_mouse.txt",
        f"{_CROSS2020}/targets_mouse.txt",
        "f76c869a38bfc79690d7a43e86f155db9b8ac8085ff5a717f99358b3253cd230",
        250_458,
    ),
}
_N_TRACKS = {"human": 5313, "mouse": 1643}
_CROSS2020_ASSEMBLIES = {"human": "GRCh38", "mouse": "mm10"}

_BELUGA_FILE = RemoteFile(
    "resources/deepsea.beluga.pth",
    (f"{_ZENODO}/3402406/files/deepsea.beluga.pth",),
    None,
    None,
    md5="62360f2db4ac96554d28d058b50ab654",
)
_BELUGA_COPY = RemoteFile(
    "deepsea.beluga.pth",
    (f"{_PRINCETON}/expecto/resources_20190807.tar.gz",),
    None,
    None,
    member="resources/deepsea.beluga.pth",
)


def _basenji2(species: Literal["human", "mouse"], file: RemoteFile, *copies: RemoteFile) -> Checkpoint:
    return Checkpoint(
        name="basenji2" if species == "human" else "basenji2-mouse",
        module="basenji2",
        variant=species,
        files=(file, _CROSS2020_TABLES[species]),
        copies=copies,
        about_bytes=98_000_000 if species == "mouse" else 0,
        converts=True,
        licence="Apache-2.0 (of the code)",
        commercial=True,
        paper=_BASENJI2_PAPER,
        source="https://github.com/calico/basenji",
        assembly=_CROSS2020_ASSEMBLIES[species],
        window=131_072,
        index=65_535,
        reads=f"{_N_TRACKS[species]} {species} tracks (DNase, ATAC, ChIP, CAGE) in 896 bins of 128 bases",
        scores="SAD and SAR per track; headline the largest SAR per assay",
        strands="both, answers averaged",
        parameters=30_088_228 if species == "human" else 24_447_438,
        n_outputs=_N_TRACKS[species],
        memory="1.5 GB" if species == "human" else "",
        verified="the authors' Keras code (tag 0.5); same random weights, 1e-6; their script's SNV scores",
        tracks_file=_CROSS2020_TABLES[species].name,
        tracks_format="basenji",
    )


_ENFORMER_COPIES = (
    RemoteFile(
        "variables/variables.index",
        (_ENFORMER_HUB,),
        "7a30693fac902bd23140e962368a80577ed4a05e62c7602b25a820be32d53f91",
        None,
    ),
    RemoteFile(
        "variables/variables.data-00000-of-00001",
        (_ENFORMER_HUB,),
        "6a64f5fdb08b79efc5f18a1d18a804486390d5649046c8b63ac7bb6794cfc461",
        None,
        role="shard",
    ),
    RemoteFile(
        "pytorch_model.bin",
        ("https://huggingface.co/EleutherAI/enformer-official-rough/resolve/main/pytorch_model.bin",),
        None,
        None,
    ),
)


def _enformer(species: Literal["human", "mouse"]) -> Checkpoint:
    """Both species are heads of one network, so that they share their files in the cache."""
    stem = "enformer-fine-tuned-human-1"
    shard = f"{stem}.data-00000-of-00001"
    return Checkpoint(
        name="enformer" if species == "human" else "enformer-mouse",
        module="enformer",
        variant=species,
        folder="enformer",
        files=(
            RemoteFile(f"{stem}.index", (f"{_SONNET}/{stem}.index",), None, None),
            RemoteFile(shard, (f"{_SONNET}/{shard}",), None, None, role="shard"),
            _CROSS2020_TABLES[species],
        ),
        copies=_ENFORMER_COPIES,
        about_bytes=1_005_000_000,
        converts=True,
        licence="Apache-2.0 (of the code)",
        commercial=True,
        paper=_ENFORMER_PAPER,
        source="https://github.com/google-deepmind/deepmind-research/tree/master/enformer",
        assembly=_CROSS2020_ASSEMBLIES[species],
        window=196_608,
        index=98_303,
        reads=f"{_N_TRACKS[species]} {species} tracks (DNase, ATAC, ChIP, CAGE) in 896 bins of 128 bases",
        scores="SAD and SAR per track; headline the largest SAR per assay",
        strands="both, answers averaged",
        parameters=251_221_292,
        n_outputs=_N_TRACKS[species],
        memory="4.5 GB" if species == "human" else "",
        verified="the authors' Sonnet code at full length; same random weights, 8e-6",
        tracks_file=_CROSS2020_TABLES[species].name,
        tracks_format="basenji",
    )


def _sei_member(name: str, sha256: str | None, size: int | None, role: Literal["weights", "data"]) -> RemoteFile:
    archive = f"{_ZENODO}/4906997/files/sei_model.tar.gz"
    return RemoteFile(name, (archive,), sha256, size, member=f"model/{name}", role=role)


def _expecto_models() -> tuple[RemoteFile, ...]:
    """The linear models, one a tissue, as the authors' repository holds them."""
    listed = resources.files("varfm").joinpath("models", "data", "expecto_models.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in listed.splitlines())
    return tuple(RemoteFile(name, (f"{_EXPECTO}/{name}",), sha256, 80_442, role="listed") for sha256, name in rows)


TRACK_CHECKPOINTS = (
    Checkpoint(
        name="deepsea",
        module="deepsea",
        variant="deepsea",
        files=(
            RemoteFile(
                "deepsea_predict.pth",
                (f"{_ZENODO}/1466993/files/deepsea_predict.pth",),
                None,
                None,
                md5="89e640bf6bdbe1ff165f484d9796efc7",
            ),
            _table(
                "predictor.names",
                f"{_KIPOI}/DeepSEA/predictor.names",
                "b9e2a42dca123561dfbddce605a2521ff957ad1bd01c450307a3f512bec6b1f4",
                17_320,
            ),
        ),
        copies=(
            RemoteFile(
                "deepsea_variant_effects.pth",
                (f"{_ZENODO}/1466993/files/deepsea_variant_effects.pth",),
                None,
                None,
                md5="35956ab9c28960b5a3693f470fe980c1",
            ),
            RemoteFile(
                "deepsea.cpu",
                (f"{_PRINCETON}/deepsea.v0.94b.tar.gz",),
                "2af6abe4f422839c56ddbb9f9b14771a62ec49378903035c4212acdd1a370129",
                None,
                member="DeepSEA-v0.94b/deepsea.cpu",
                archive_sha256="449ef2b69b82ccc140c91fe7ae555513b48ef6f2d55ac03d4f56a9290732a627",
            ),
        ),
        about_bytes=211_000_000,
        converts=True,
        licence="CC-BY-3.0",
        commercial=True,
        paper="Zhou and Troyanskaya, Nature Methods 12 (2015) 931-934, doi:10.1038/nmeth.3547",
        source="https://deepsea.princeton.edu/media/code/deepsea.v0.94b.tar.gz",
        assembly="hg19",
        window=1000,
        index=499,
        reads="919 chromatin features (DNase, transcription factors, histone marks)",
        scores="probability difference and log-odds change per feature; headline the largest difference",
        strands="both, scores averaged",
        parameters=52_843_119,
        n_outputs=919,
        memory="0.9 GB",
        verified="the authors' package on Torch7 (scores, e-values) and Kipoi's port; same random weights, 6e-7",
        tracks_file="predictor.names",
        tracks_format="deepsea",
    ),
    Checkpoint(
        name="beluga",
        module="deepsea",
        variant="beluga",
        folder="expecto",
        files=(
            _BELUGA_FILE,
            _table(
                "resources/deepsea_beluga_2002_features.tsv",
                f"{_EXPECTO}/resources/deepsea_beluga_2002_features.tsv",
                "04554efe4acb95a1e18ed47f3a1ad17ae969e19d46de47cdf9e9cca8df5c4ef9",
                203_001,
            ),
        ),
        copies=(_BELUGA_COPY,),
        about_bytes=598_000_000,
        converts=True,
        licence=_PRINCETON_LICENCE,
        commercial=False,
        paper=_BELUGA_PAPER,
        source="https://github.com/FunctionLab/ExPecto",
        assembly="hg19",
        window=2000,
        index=999,
        reads="2002 chromatin features (DNase, transcription factors, histone marks)",
        scores="probability difference and log-odds change per feature; headline the largest difference",
        strands="both, scores averaged",
        parameters=149_536_251,
        n_outputs=2002,
        memory="1.7 GB",
        verified="the authors' class and chromatin.py; same random weights, 9e-7; their script's SNV scores",
        tracks_file="resources/deepsea_beluga_2002_features.tsv",
        tracks_format="beluga",
    ),
    Checkpoint(
        name="basset",
        module="basset",
        files=(
            RemoteFile(
                "pretrained_model_reloaded_th.pth",
                (f"{_ZENODO}/1466068/files/pretrained_model_reloaded_th.pth",),
                None,
                None,
                md5="4878981d84499eb575abd0f3b45570d3",
            ),
            _table(
                "targets.txt",
                f"{_BASSET}/data/models/targets.txt",
                "81ad89c625b9f9d5aab81ec3c7e9bfd8f35bffc0067de4b3ee1df099bdd98f18",
                9_916,
            ),
        ),
        copies=(
            RemoteFile(
                "pretrained_model.th",
                ("https://www.dropbox.com/s/rguytuztemctkf8/pretrained_model.th.gz?dl=1",),
                "d228f99c8ca286f7f7684534fc66f8ad8c8099afa7380d35c15e88da341f1b94",
                None,
                member="pretrained_model.th",
                archive_sha256="cfc2cc76ef0f1d4570670b83fae191b956e262bec53547a1844fed1847f3ed91",
            ),
        ),
        about_bytes=17_000_000,
        converts=True,
        licence="MIT",
        commercial=True,
        paper="Kelley et al., Genome Research 26 (2016) 990-999, doi:10.1101/gr.200535.115",
        source="https://github.com/davek44/Basset",
        assembly="hg19",
        window=600,
        index=299,
        reads="DNase hypersensitivity in 164 cell types",
        scores="probability difference per cell type; headline the largest difference",
        strands="both, answers averaged",
        parameters=4_135_064,
        n_outputs=164,
        memory="0.5 GB",
        verified="the authors' Lua code on Torch7; same random weights, 6e-7; their script's SNV scores",
        tracks_file="targets.txt",
        tracks_format="basset",
    ),
    Checkpoint(
        name="basenji",
        module="basenji",
        files=(
            RemoteFile(
                "model.tf.index",
                (f"{_ZENODO}/1466066/files/model.tf.index", f"{_BUCKET_131K}/model.tf.index"),
                None,
                None,
                md5="b9561a2f203a8a1589cc65183dc0898b",
            ),
            RemoteFile(
                "model.tf.data-00000-of-00001",
                (
                    f"{_ZENODO}/1466066/files/model.tf.data-00000-of-00001",
                    f"{_BUCKET_131K}/model.tf.data-00000-of-00001",
                ),
                None,
                None,
                md5="155c2047761dbce5a18f00ba9d3fb821",
                role="shard",
            ),
            _table("sample_wigs.txt", f"{_BUCKET_131K}/sample_wigs.txt", None, None),
        ),
        converts=True,
        licence="Apache-2.0",
        commercial=True,
        paper="Kelley et al., Genome Research 28 (2018) 739-750, doi:10.1101/gr.227819.117",
        source="https://github.com/calico/basenji",
        assembly="hg19",
        window=131_072,
        index=65_535,
        reads="4229 coverage tracks (DNase, histone marks, CAGE) in 960 bins of 128 bases",
        scores="SAD and SAR per track; headline the largest SAR per assay",
        strands="both, answers averaged",
        parameters=15_190_636,
        n_outputs=4229,
        memory="1.4 GB",
        verified="the authors' code on TensorFlow 1.15; same random weights, 1e-6; their script's SNV scores",
        tracks_file="sample_wigs.txt",
        tracks_format="basenji2018",
    ),
    _basenji2(
        "human",
        RemoteFile(
            "model_human.h5",
            (f"{_BARNYARD}/model_human.h5",),
            "3f74da002918d3e695bbf9e6f8a685e860196679372ba0964bd1faa26a82eed1",
            120_813_856,
        ),
        RemoteFile(
            "basenji2.pth",
            ("https://zenodo.org/records/14969593/files/basenji2.pth",),
            None,
            None,
            md5="1f46acc933e05515faf4d7eec0e27d42",
        ),
    ),
    _basenji2("mouse", RemoteFile("model_mouse.h5", (f"{_BARNYARD}/model_mouse.h5",), None, None)),
    _enformer("human"),
    _enformer("mouse"),
    Checkpoint(
        name="sei",
        module="sei",
        files=(
            _sei_member("sei.pth", None, None, "weights"),
            _sei_member("projvec_targets.npy", None, None, "data"),
            _sei_member(
                "histone_inds.npy",
                "7a7af2c642ae6833ce2cee799a702a907544c0926c56b5c8b1236cd6470f5443",
                80_640,
                "data",
            ),
            _table(
                "target.names",
                f"{_SEI}/model/target.names",
                "3a2cece0a7877dadb2c23e8fcaf57b25ef57523258437201785fde9e537376a9",
                905_833,
            ),
            _table(
                "seqclass.names",
                f"{_SEI}/model/seqclass.names",
                "5276a0a39f4d0364e22c5bb93d02e75c7c171f6e4b61fc47baa301fce9cc15b3",
                692,
            ),
        ),
        about_bytes=3_100_000_000,
        converts=True,
        licence="Princeton, Simons Foundation, UT Southwestern: academic and research use",
        commercial=False,
        paper="Chen et al., Nature Genetics 54 (2022) 940-949, doi:10.1038/s41588-022-01102-2",
        source="https://github.com/FunctionLab/sei-framework",
        assembly="GRCh38",
        window=4096,
        index=2047,
        reads="21907 chromatin profiles, projected on 40 sequence classes",
        scores="40 class scores, top class, class of the reference",
        strands="both, answers averaged",
        parameters=889_979_983,
        n_outputs=21_907,
        memory="4.8 GB",
        verified="the authors' class, class scores and Selene; same random weights, 6e-7",
        tracks_file="target.names",
        tracks_format="sei",
    ),
    Checkpoint(
        name="expecto",
        module="expecto",
        folder="expecto",
        files=(
            _BELUGA_FILE,
            _table(
                "resources/modellist",
                f"{_EXPECTO}/resources/modellist",
                "963ac4fb1dee5fbb4669dacfe601f75ee8d0daa95b8c08698edc030f0a09a825",
                28_369,
            ),
            *_expecto_models(),
        ),
        copies=(_BELUGA_COPY,),
        about_bytes=616_000_000,
        licence=_PRINCETON_LICENCE,
        commercial=False,
        paper=_BELUGA_PAPER,
        source="https://github.com/FunctionLab/ExPecto",
        assembly="hg19",
        window=2000,
        index=999,
        reads="expression in 218 tissues, from chromatin features in 9 windows of 2000 bases around the allele",
        scores="change of ln expression per gene and tissue; headline the largest",
        strands="both, answers averaged",
        parameters=149_536_251 + 218 * 20_031,
        n_outputs=218,
        memory="1.7 GB",
        verified="the authors' example: 10 variants x 218 tissues of the published models, to 5e-8; Beluga as above",
        tracks_file="resources/modellist",
        tracks_format="expecto",
        needs_genes=True,
    ),
)
"""In the order of the documentation."""
