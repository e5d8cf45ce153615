"""Gene files of every bad kind, met by a model that needs genes."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from conftest import Varfm
from vcf_bytes import BASES, fasta, info_values, record, vcf, without_annotation
from weight_files import xpresso

# One contig of 12,000 bases; the base at 1-based position p is ACGT[(p - 1) % 4]. The window of a gene on the forward
# strand whose TSS is at 0-based 8,000 spans 1,000 to 11,500.
GENOME = fasta({"chr1": BASES * 12})
ROWS = vcf(
    record(8001, "A", "C"),
    record(1, "A", "C"),
    head=b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n",
)
BED = b"chr1\t8000\t9000\tGENE1\t0\t+\n"


def gtf(
    contig: str = "chr1", start: int = 8001, end: int = 9000, head: str = "", gene_type: str = "protein_coding"
) -> bytes:
    about = f'gene_id "G1"; gene_name "GENE1"; gene_type "{gene_type}"; transcript_id "T1";'
    return "".join(
        [head]
        + [f"{contig}\tx\t{feature}\t{start}\t{end}\t.\t+\t.\t{about}\n" for feature in ("gene", "transcript", "exon")]
    ).encode()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return xpresso(tmp_path_factory.mktemp("weights") / "xpresso.h5")


def options(varfm: Varfm, weights: Path, *genes: object) -> list[object]:
    reference = varfm.file("ref.fa", GENOME)
    return ["-m", "xpresso-human", "--weights", weights, "-f", reference, *(["--genes", *genes] if genes else [])]


@pytest.mark.parametrize("data", [BED, gtf(), gzip.compress(gtf(), mtime=0)])
def test_gene_file_of_each_format_gives_scores(varfm: Varfm, weights: Path, data: bytes) -> None:
    genes = varfm.file("genes", data)
    result = varfm.score(varfm.file("in.vcf", ROWS), *options(varfm, weights, genes))
    assert result.status == 0, result.err
    assert without_annotation(result.out) == ROWS
    assert info_values(result.out) == [["OK"], ["NO_GENE"]]
    assert info_values(result.out, b"VARFM_XPRESSO_HUMAN_GENE") == [["GENE1"], []]
    assert "not the published file" in result.err


def test_missing_genes_are_a_usage_error_that_names_the_option(varfm: Varfm, weights: Path) -> None:
    message = varfm.refused(2, varfm.file("in.vcf", ROWS), *options(varfm, weights))
    assert "xpresso-human" in message and "--genes" in message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", ["is neither GTF, GFF3, BED"], id="empty"),
        pytest.param(b"# only comments\n", ["is neither GTF, GFF3, BED"], id="comments only"),
        pytest.param(ROWS, ["is neither GTF, GFF3, BED"], id="VCF"),
        pytest.param(GENOME, ["is neither GTF, GFF3, BED"], id="FASTA"),
        pytest.param(b"<html>\n", ["is neither GTF, GFF3, BED"], id="HTML"),
        pytest.param(BED.replace(b"\t", b" "), ["is neither GTF, GFF3, BED"], id="spaces for tabs"),
        pytest.param(b"chr1\t8000\t9000\n", ["line 1", "strand"], id="BED of three columns"),
        pytest.param(BED.replace(b"+", b"."), ["line 1", "strand"], id="BED without a strand"),
        pytest.param(BED + BED.replace(b"9000", b"8000"), ["line 2", "start < end"], id="BED of no length"),
        pytest.param(
            BED + BED.replace(b"8000\t9000", b"8001\t12001"),
            ["line 2", "12,001", "12,000", "assembly"],
            id="BED, too long",
        ),
        pytest.param(gtf(end=12_001), ["line 2", "12,001", "12,000", "assembly"], id="GTF beyond the contig"),
        pytest.param(gtf(head="#!genome-build GRCm38.p6\n"), ["GRCm38", "mouse", "human"], id="other species"),
        pytest.param(gtf(contig="chrNO"), ["none of the contigs", "chrNO", "--contig-map"], id="no known contig"),
        pytest.param(gtf(gene_type="lincRNA"), ["no gene of the types", "--gene-types"], id="no gene of the type"),
        pytest.param(gtf(start=-5), ["line 1"], id="GTF with a negative start"),
        pytest.param(gtf(start=9001), ["line 1"], id="GTF, start after end"),
        pytest.param(gzip.compress(gtf())[:-9], ["truncated"], id="gzip, cut"),
        pytest.param(b"\xff\xfe" + gtf().decode().encode("utf-16-le"), ["UTF-16"], id="UTF-16"),
        pytest.param(bytes(200), ["is neither GTF, GFF3, BED"], id="NUL bytes"),
    ],
)
def test_gene_file_of_another_kind_or_assembly_is_refused(
    varfm: Varfm, weights: Path, data: bytes, words: list[str]
) -> None:
    message = varfm.refused(3, varfm.file("in.vcf", ROWS), *options(varfm, weights, varfm.file("genes.txt", data)))
    assert "genes.txt" in message
    assert [word for word in words if word not in message] == [], message


def test_gene_file_of_another_assembly_than_the_vcf_is_refused(varfm: Varfm, weights: Path) -> None:
    rows = varfm.file("in.vcf", ROWS.replace(b"#CHROM", b"##contig=<ID=chr1,length=12000,assembly=GRCh38>\n#CHROM"))
    genes = varfm.file("genes.gtf", gtf(head="#!genome-build GRCh37.p13\n"))
    message = varfm.refused(3, rows, *options(varfm, weights, genes))
    assert "genes.gtf" in message and "GRCh37" in message and "GRCh38" in message


def test_missing_gene_file_and_folder_are_refused(varfm: Varfm, weights: Path) -> None:
    rows = varfm.file("in.vcf", ROWS)
    assert "no such file" in varfm.refused(3, rows, *options(varfm, weights, varfm.folder / "no.gtf"))
    assert "folder" in varfm.refused(3, rows, *options(varfm, weights, varfm.folder))


def test_gene_name_of_strange_bytes_is_cleaned_in_info(varfm: Varfm, weights: Path) -> None:
    genes = varfm.file("genes.bed", b"chr1\t8000\t9000\tA;B=\xff,C \x1b[31m\t0\t+\n")
    result = varfm.score(varfm.file("in.vcf", ROWS), *options(varfm, weights, genes))
    assert result.status == 0, result.err
    assert without_annotation(result.out) == ROWS
    [[name], []] = info_values(result.out, b"VARFM_XPRESSO_HUMAN_GENE")
    assert name.startswith("A_B_") and set(name) <= set("ABC_31m")


def test_contig_map_joins_the_names_of_a_gene_file(varfm: Varfm, weights: Path) -> None:
    genes = varfm.file("genes.bed", BED.replace(b"chr1", b"NC_1"))
    names = varfm.file("names.tsv", b"NC_1\tchr1\n")
    result = varfm.score(varfm.file("in.vcf", ROWS), *options(varfm, weights, genes), "--contig-map", names)
    assert (result.status, info_values(result.out)) == (0, [["OK"], ["NO_GENE"]])
