"""Make the example data from the test data of bcftools 1.16, which ships real pieces of the human genome.

    python make_example.py SOURCE [FOLDER]

SOURCE is `bcftools_1.16.orig.tar.gz` of Debian's source package, or its folder `test/csq`. The files go to FOLDER,
by default the folder of this script. The variants are made up: places and alleles are chosen so that every kind of
record occurs. Equal input gives equal files.
"""

from __future__ import annotations

import re
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pysam

PIECES = {"NTNG1": "ENST00000542803", "MKNK1": "ENST00000528237"}
"""Contig of the example to the folder of the source that holds it, in the order of the FASTA."""

IUPAC = {"A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"}
NEXT_BASE = str.maketrans("ACGT", "CGTA")
COMPLEMENT = str.maketrans("ACGT", "TGCA")

NTNG1_TSS = 10
"""First base of ENST00000542803, plus strand, 0-based in the contig NTNG1."""
MKNK1_TSS = 28_861
"""First base of ENST00000528237, minus strand, 0-based in the contig MKNK1."""

HEADER = """\
##fileformat=VCFv4.2
##source=made_up_example
##FILTER=<ID=PASS,Description="All filters passed">
##FILTER=<ID=low_qual,Description="Quality below 20">
##INFO=<ID=AF,Number=A,Type=Float,Description="Allele frequency, made up">
##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth, made up">
##INFO=<ID=DB,Number=0,Type=Flag,Description="Known to a database, made up">
##INFO=<ID=CSQ,Number=.,Type=String,Description="As other annotators write it. Format: Allele|Consequence|SYMBOL">
##INFO=<ID=END,Number=1,Type=Integer,Description="End of the deletion">
##INFO=<ID=SVTYPE,Number=1,Type=String,Description="Kind of structural variant">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype, made up">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Depth, made up">
##ALT=<ID=DEL,Description="Deletion">
##ALT=<ID=NON_REF,Description="Any other allele">
"""
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tsample_1\tsample_2\n"

QUALITIES = ("29.50", "100", "7.1e+01", ".", "1000.0")
INFOS = (
    "DP=31;AF={af}",
    ".",
    "AF={af};DB",
    "DP=8;CSQ={alt}|upstream_gene_variant|,{alt}|intron_variant|{contig}",
    "DB",
)
FREQUENCIES = ("0.0312", "1e-04", ".5", "0.10")
SAMPLES = ("GT:DP\t0/1:14\t0|0:17", "GT\t0/1\t./.", "GT:DP\t1|1:8\t0/1:.", "GT\t.\t0/0")


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the VCF; `start` is 0-based, `info` None takes one of `INFOS`."""

    name: str
    contig: str
    start: int
    ref: str
    alt: str
    info: str | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A contig and the records that are cut from it."""

    contig: str
    bases: str

    def record(self, name: str, start: int, n_ref: int, *alts: str, info: str | None = None) -> Record:
        """Write a record whose REF is the `n_ref` bases at `start`; `-` in an ALT stands for the first of them."""
        ref = self.bases[start : start + n_ref]
        return Record(name, self.contig, start, ref, ",".join(alt.replace("-", ref[0]) for alt in alts), info)

    def snv(self, name: str, start: int, n_alts: int = 1) -> Record:
        """Change the base at `start` into the next one of A, C, G, T, or into several."""
        alts = [self.bases[start]]
        while len(alts) <= n_alts:
            alts.append(alts[-1].translate(NEXT_BASE))
        return self.record(name, start, 1, *alts[1:])

    def best_sites(self, consensus: str, core: str, n_sites: int) -> list[int]:
        """Find the places that agree best with an IUPAC consensus on either strand; `core` is a part that must match.

        Returns:
            0-based places of the middle of the core on the forward strand, best first, then leftmost.
        """
        offset = consensus.index(core)
        pattern = re.compile("(?=" + "".join(f"[{IUPAC[letter]}]" for letter in core) + ")")
        found: list[tuple[int, int]] = []
        for strand, text in (("+", self.bases), ("-", self.bases[::-1].translate(COMPLEMENT))):
            for match in pattern.finditer(text):
                begin = match.start() - offset
                word = text[max(begin, 0) : begin + len(consensus)]
                n_same = sum(base in IUPAC[letter] for base, letter in zip(word, consensus, strict=False))
                middle = match.start() + len(core) // 2
                found.append((-n_same, middle if strand == "+" else len(text) - 1 - middle))
        return [place for _, place in sorted(found)[:n_sites]]

    def first_repeat(self, unit: str, n_times: int) -> int:
        """Find the first run of at least `n_times` units; 0-based place of its first base."""
        return self.bases.index(unit * n_times)


def promoter_records(ntng1: Piece) -> Iterator[Record]:
    """Change single bases around the TSS of NTNG1, the first ones so near to the contig start that windows run out."""
    for number, offset in zip(count(1), (-6, 0, 20, 49, 78, 110, 140, 167, 189, 230, 289, 340), strict=False):
        yield ntng1.snv(f"tss_snv_{number}", NTNG1_TSS + offset)


def motif_records(ntng1: Piece) -> Iterator[Record]:
    """Change the middle of motifs of CTCF and PU.1, and for comparison a base 300 bases away."""
    motifs = (("ctcf", "RCCASYAGRKGGCRSY", "RKGGC"), ("pu1", "RAAAGMGGAAGTG", "GGAA"))
    for factor, consensus, core in motifs:
        for number, place in enumerate(ntng1.best_sites(consensus, core, 3), 1):
            yield ntng1.snv(f"{factor}_{number}_core", place)
            yield ntng1.snv(f"{factor}_{number}_away", place + 300)


def substitution_records(ntng1: Piece) -> Iterator[Record]:
    """Give several bases, unequal lengths, several alternates, and spellings that a caller may choose."""
    yield ntng1.snv("three_alternates", 20_000, 3)
    yield ntng1.record("mnv_2", 20_500, 2, ntng1.bases[20_500:20_502].translate(NEXT_BASE))
    yield ntng1.record("mnv_3", 21_000, 3, ntng1.bases[21_000:21_003].translate(NEXT_BASE))
    outer, middle = ntng1.bases[21_500].translate(NEXT_BASE), ntng1.bases[21_501]
    yield ntng1.record("mnv_same_middle", 21_500, 3, outer + middle + ntng1.bases[21_502].translate(NEXT_BASE))
    flanks = ntng1.bases[22_000:22_005]
    yield ntng1.record("snv_padded", 22_000, 5, flanks[:2] + flanks[2].translate(NEXT_BASE) + flanks[3:])
    yield ntng1.record("delins_3_to_1", 22_500, 3, ntng1.bases[22_500].translate(NEXT_BASE))
    yield ntng1.record("delins_2_to_5", 23_000, 2, ntng1.bases[23_000].translate(NEXT_BASE) + "GATC")
    lower = ntng1.bases[23_500].lower()
    yield Record("lower_case", "NTNG1", 23_500, lower, lower.translate(str.maketrans("acgt", "gtac")))
    yield ntng1.record("alt_is_ref", 24_000, 1, "-")
    yield ntng1.record("alt_is_ref_and_snv", 24_500, 1, "-", ntng1.bases[24_500].translate(NEXT_BASE))
    yield ntng1.snv("twice", 25_000)
    yield ntng1.snv("twice", 25_000)


def indel_records(ntng1: Piece) -> Iterator[Record]:
    """Insert and delete, in plain sequence and in repeats, and written elsewhere than at the left end of the repeat."""
    yield ntng1.record("insertion_1", 26_000, 1, "-" + ntng1.bases[26_001].translate(NEXT_BASE))
    yield ntng1.record("insertion_12", 26_500, 1, "-GATTACACATGC")
    yield ntng1.record("insertion_49", 27_000, 1, "-" + "GATTACA" * 7)
    yield ntng1.record("insertion_60", 27_500, 1, "-" + "GATTAC" * 10)
    yield ntng1.record("deletion_1", 28_000, 2, "-")
    yield ntng1.record("deletion_21", 28_500, 22, "-")
    yield ntng1.record("deletion_60", 29_000, 61, "-")
    run = ntng1.first_repeat("A" * 15, 1)
    yield ntng1.record("poly_a_shorter_left", run - 1, 2, "-")
    yield ntng1.record("poly_a_shorter_right", run + 10, 2, "-")
    yield ntng1.record("poly_a_both_ways", run + 4, 3, "-", "-A", "-AAA")
    run = ntng1.first_repeat("TG", 12)
    yield ntng1.record("tg_shorter", run + 8, 5, "-GT")
    yield ntng1.record("tg_longer", run + 3, 1, "-TG")
    yield ntng1.record("cttc_longer", ntng1.first_repeat("CTTC", 8) + 11, 1, "-CTTC")


def skipped_records(ntng1: Piece) -> Iterator[Record]:
    """Give one record, or more, for every reason that leaves an allele without a score."""
    yield ntng1.record("no_alt", 30_000, 1, ".", info="DP=22")
    yield ntng1.record("star", 30_100, 1, ntng1.bases[30_100].translate(NEXT_BASE), "*")
    yield ntng1.record("symbolic", 30_200, 1, "<DEL>", info="SVTYPE=DEL;END=30250")
    yield ntng1.record("any_other", 30_300, 1, ntng1.bases[30_300].translate(NEXT_BASE), "<NON_REF>")
    yield ntng1.record("breakend", 30_400, 1, "-]MKNK1:500]", info="SVTYPE=BND")
    yield ntng1.record("single_breakend", 30_450, 1, "-.", info="SVTYPE=BND")
    yield ntng1.record("n_in_alt", 30_500, 1, "-ANT")
    yield ntng1.record("ambiguous_alt", 30_600, 1, "R")
    other = ntng1.bases[30_700].translate(NEXT_BASE)
    yield Record("ref_differs", "NTNG1", 30_700, other, other.translate(NEXT_BASE))
    length = len(ntng1.bases)
    yield ntng1.snv("near_end", length - 8)
    last = ntng1.bases[-1]
    yield Record("past_the_end", "NTNG1", length - 2, ntng1.bases[-2:] + "ACG", ntng1.bases[-2])
    yield ntng1.record("after_last_base", length - 1, 1, "-" + last.translate(NEXT_BASE))
    yield Record("beyond_contig", "NTNG1", length + 499, "A", "C")
    yield Record("no_contig", "decoy1", 99, "G", "T")


def gene_records(mknk1: Piece) -> Iterator[Record]:
    """Change the promoter of MKNK1, whose windows lie inside the contig."""
    for number, offset in enumerate((-40, 0, 30, 75, 180, 420, 1_500), 1):
        yield mknk1.snv(f"mknk1_snv_{number}", MKNK1_TSS + offset)
    yield mknk1.record("promoter_deletion_5", MKNK1_TSS + 100, 6, "-")
    yield mknk1.record("tss_deletion_5", MKNK1_TSS - 3, 6, "-")
    yield mknk1.record("promoter_insertion_4", MKNK1_TSS + 140, 1, "-GGCA")


def vcf_text(sequences: dict[str, str]) -> str:
    """Write the VCF for the contigs of `PIECES`, sorted by contig and position."""
    ntng1, mknk1 = (Piece(contig, sequences[contig]) for contig in PIECES)
    makers = (promoter_records, motif_records, substitution_records, indel_records, skipped_records)
    records = [record for maker in makers for record in maker(ntng1)] + list(gene_records(mknk1))
    contigs = [*PIECES, "decoy1"]
    records.sort(key=lambda record: (contigs.index(record.contig), record.start))
    lengths = {contig: len(bases) for contig, bases in sequences.items()} | {"decoy1": 5_000}
    declared = "".join(f"##contig=<ID={contig},length={lengths[contig]}>\n" for contig in contigs)
    return HEADER + declared + COLUMNS + "".join(_line(record, number) for number, record in enumerate(records))


def _line(record: Record, number: int) -> str:
    alts = record.alt.split(",")
    info = record.info
    if info is None:
        frequencies = ",".join(FREQUENCIES[(number + index) % len(FREQUENCIES)] for index in range(len(alts)))
        info = INFOS[number % len(INFOS)].format(af=frequencies, alt=alts[0], contig=record.contig)
    quality = QUALITIES[number % len(QUALITIES)]
    verdict = "low_qual" if number % 11 == 10 else "PASS"
    samples = SAMPLES[number % len(SAMPLES)]
    position = record.start + 1
    fields = (record.contig, str(position), record.name, record.ref, record.alt, quality, verdict, info, samples)
    return "\t".join(fields) + "\n"


def labels_text(sequences: dict[str, str]) -> str:
    """Write labelled single-base changes: 1 where the new base is G or C, which stands for a measurement."""
    lines = ["contig\tpos\tref\talt\tlabel"]
    for contig, places in (("NTNG1", range(30_000, 80_000, 500)), ("MKNK1", range(5_000, 35_000, 500))):
        for number, place in enumerate(places):
            ref = sequences[contig][place]
            alt = ref
            for _ in range(1 + number % 3):
                alt = alt.translate(NEXT_BASE)
            lines.append(f"{contig}\t{place + 1}\t{ref}\t{alt}\t{int(alt in 'GC')}")
    return "\n".join(lines) + "\n"


def gff_text(sources: dict[str, str], sequences: dict[str, str]) -> str:
    """Join the annotations of the pieces, with the contig names of the example and GFF3's own header lines."""
    lines = ["##gff-version 3\n"]
    lines += [f"##sequence-region {contig} 1 {len(bases)}\n" for contig, bases in sequences.items()]
    for contig, text in sources.items():
        lines += [f"{contig}\t{line.split(chr(9), 1)[1]}\n" for line in text.splitlines() if "\t" in line]
    return "".join(lines)


def read_source(source: Path, name: str) -> str:
    """Read one file, named as inside `test/csq`, from the folder or the tarball."""
    if source.is_dir():
        return (source / name).read_text()
    with tarfile.open(source) as archive:
        member = archive.extractfile(f"bcftools-1.16/test/csq/{name}")
        if member is None:
            raise FileNotFoundError(f"{source}: has no file test/csq/{name}")
        return member.read().decode()


def fasta_text(sequences: dict[str, str]) -> str:
    """Write the contigs with 60 bases a line."""
    chunks = {contig: "\n".join(re.findall(".{1,60}", bases)) for contig, bases in sequences.items()}
    return "".join(f">{contig}\n{chunk}\n" for contig, chunk in chunks.items())


def read_fasta(path: Path) -> dict[str, str]:
    """Read a FASTA with BGZF or gzip compression: contig to bases."""
    with pysam.FastxFile(str(path)) as reader:
        return {str(entry.name): entry.sequence or "" for entry in reader}


def main(source: Path, folder: Path) -> None:
    """Write FASTA, GFF3 and VCF to `folder`."""
    fasta = {contig: read_source(source, f"{piece}/{piece}.fa") for contig, piece in PIECES.items()}
    sequences = {contig: "".join(text.split("\n")[1:]) for contig, text in fasta.items()}
    gff = {contig: read_source(source, f"{piece}/{piece}.gff") for contig, piece in PIECES.items()}
    with pysam.BGZFile(str(folder / "ntng1.fa.gz"), "w", None) as stream:
        stream.write(fasta_text(sequences).encode())
    (folder / "ntng1.gff3").write_text(gff_text(gff, sequences))
    (folder / "ntng1.vcf").write_text(vcf_text(sequences))
    (folder / "labels.tsv").write_text(labels_text(sequences))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent)
