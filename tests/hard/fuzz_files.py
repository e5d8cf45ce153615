"""Good files of every kind that varfm reads, small, for a fuzzer to damage."""

from __future__ import annotations

import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
from vcf_bytes import BASES, GOOD, fasta, record, vcf
from writers import Function, Module, sequential, write_torch7

EXAMPLE = Path(__file__).resolve().parents[2] / "example_data"
GENOME = fasta({"chr1": BASES, "chr2": "AAAAANNNNNRYSWKMacgt"})
WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


def written(write: Callable[[Path], None], name: str = "file") -> bytes:
    """Give the bytes that a writer of files writes."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, name))
        return Path(folder, name).read_bytes()


VARIED = vcf(
    record(1, "A", "C,G,<DEL>,*", "DP=3;AF=0.1,0.2,0.3,0.4"),
    record(5, "ACGT", "A", "END=8"),
    record(9, "A", "ACCCC", name="rs1;rs2"),
    record(12, "T", "T[chr2:5[", "SVTYPE=BND"),
    record(4, "C", "A", contig="chr2"),
    record(0, "N", "."),
    record(2000, "A", "C"),
    head=b'##fileformat=VCFv4.2\n##INFO=<ID=DP,Number=1,Type=Integer,Description="x">\n'
    b'##INFO=<ID=AF,Number=A,Type=Float,Description="y">\n##INFO=<ID=END,Number=1,Type=Integer,Description="e">\n'
    b'##INFO=<ID=SVTYPE,Number=1,Type=String,Description="t">\n##contig=<ID=chr1,length=1000>\n##contig=<ID=chr2>\n'
    b'##ALT=<ID=DEL,Description="d">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n',
)
SAMPLES = b"".join(
    line
    + (b"" if line.startswith(b"##") else b"\tFORMAT\ts1\ts2" if line.startswith(b"#") else b"\tGT:DP\t0/1:3\t./.:.")
    + b"\n"
    for line in GOOD.replace(
        b"#CHROM",
        b'##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n'
        b'##FORMAT=<ID=DP,Number=1,Type=Integer,Description="d">\n'
        b'##INFO=<ID=DP,Number=1,Type=Integer,Description="d">\n#CHROM',
    ).splitlines()
)
VCFS = (GOOD, VARIED, SAMPLES, (EXAMPLE / "ntng1.vcf").read_bytes())


GTF = (
    b'#!genome-build GRCh38\nchr1\tx\tgene\t11\t500\t.\t+\t.\tgene_id "g1.1"; gene_type "t"; gene_name "A";\n'
    b'chr1\tx\ttranscript\t11\t500\t.\t+\t.\tgene_id "g1.1"; transcript_id "t1"; tag "MANE_Select"; gene_name "A";\n'
    b'chr1\tx\texon\t11\t60\t.\t+\t.\tgene_id "g1.1"; transcript_id "t1";\n'
    b'chr1\tx\tCDS\t21\t60\t.\t+\t0\tgene_id "g1.1"; transcript_id "t1";\n'
    b'chr1\tx\ttranscript\t600\t900\t.\t-\t.\tgene_id "g2"; transcript_id "t2"; gene_name "B";\n'
)
GFF3 = (
    b"##gff-version 3\n##sequence-region chr1 1 1000\n"
    b"chr1\tx\tgene\t11\t500\t.\t+\t.\tID=gene:g1;Name=A%20b;biotype=protein_coding\n"
    b"chr1\tx\tmRNA\t11\t500\t.\t+\t.\tID=transcript:t1;Parent=gene:g1;tag=MANE_Select\n"
    b"chr1\tx\texon\t11\t60\t.\t+\t.\tParent=transcript:t1\nchr1\tx\tCDS\t21\t60\t.\t+\t0\tParent=transcript:t1\n"
)
BED = b"#comment\ntrack name=x\nchr1\t10\t500\tA\t0\t+\nchr1\t600\t900\tB\t0\t-\nchr2\t1\t5\tC\t0\t+\n"
LABELS = b"contig\tpos\tref\talt\tlabel\nchr1\t1\tA\tC\t1\nchr1\t2\tC\tG\t0.5\n"
EXPECTO = (
    b"id,symbol,seqnames,strand,CAGE_representative_TSS,type\n"
    b"ENSG1,A,chr1,+,100,protein_coding\nENSG2,B,chr1,-,500,protein_coding\n"
)


TRACKS = {
    "basenji": b"index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription\n"
    b"0\t0\tENCFF833POA\t/a/b.w5\t32\t2\tmean\tDNASE:cerebellum male\n",
    "basenji2018": b"ENCFF833POA\t/a/b.w5\tDNASE:cerebellum\nENCFF110QGM\t/a/c.w5\n",
    "basset": b"8988T\t/a/b.bed\nAoSMC\t/a/c.bed\n",
    "beluga": b"\tCell type\tAssay\tTreatment\tAssay type\tSource\t\n1\t8988T\tDNase\tNone\tDNase\tENCODE\t\n",
    "expecto": b"ModelName\tTissue\n./a.save\tLiver\n",
    "deepsea": b"8988T|DNase|None\nAoSMC|DNase|None\n",
    "sei": b"a | b | c | 1\nd | e | f\n",
}


def torch7(path: Path) -> None:
    """Write a Torch7 file."""
    linear = Module("nn.Linear", {"weight": WEIGHT, "bias": WEIGHT[0].astype(np.float64), "kW": 3})
    network = sequential(linear, Module("nn.Threshold", {"val": 1e-6}))
    write_torch7(path, {"model": network, "m": WEIGHT, "f": Function(b"code", {"a": 1})})


def torch_file(path: Path, is_zip: bool) -> None:
    """Write a file of PyTorch."""
    state = {"a.weight": torch.from_numpy(WEIGHT), "n": torch.tensor(5), "h": torch.ones(3, dtype=torch.bfloat16)}
    torch.save(state, path, _use_new_zipfile_serialization=is_zip)


def zip_members() -> dict[str, bytes]:
    """Give the members of a PyTorch file."""
    with zipfile.ZipFile(io.BytesIO(written(lambda path: torch_file(path, True)))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pickle_of() -> bytes:
    """Give the pickle of a PyTorch file."""
    return next(content for name, content in zip_members().items() if name.endswith("data.pkl"))


def keras(path: Path, packed: str | None = None) -> None:
    """Write a Keras file."""
    with h5py.File(path, "w") as file:
        file.create_dataset("model_weights/dense_1/dense_1/kernel:0", data=WEIGHT, compression=packed)
        file["model_weights"].attrs["layer_names"] = [b"dense_1"]
        file.attrs["model_config"] = '{"class_name": "Sequential"}'


def tar(path: Path, mode: str = "w") -> None:
    """Write a tar as authors publish them."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name in ("a/readme", "a/" + "long" * 60, "a/weights.pth"):
            entry = tarfile.TarInfo(name)
            entry.size = 700
            archive.addfile(entry, io.BytesIO(bytes(range(70)) * 10))
