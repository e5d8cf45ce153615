"""Transcription start sites from every format, and which transcript speaks for a gene."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Literal

import pysam
import pytest

from varfm.annotation import without_version
from varfm.contigs import ContigMap
from varfm.errors import InputError
from varfm.genes import GeneIndex, read_genes, same_assembly
from varfm.windows import Gene

CONTIGS = {"chr1": 10_000, "chr2": 5_000, "chrX": 4_000, "chrY": 3_000}
ROOT = Path(__file__).parents[1]


def read(
    tmp_path: Path,
    text: str,
    *,
    gene_types: tuple[str, ...] | None = ("protein_coding",),
    tss: Literal["representative", "all"] = "representative",
    assembly: str | None = None,
    contigs: dict[str, int] = CONTIGS,
) -> GeneIndex:
    path = tmp_path / "genes.txt"
    path.write_text(text)
    return read_genes(path, ContigMap(contigs), contigs, gene_types=gene_types, tss=tss, assembly=assembly)


def sites(index: GeneIndex) -> list[tuple[str, str, int, str, str]]:
    return [tuple(gene) for contig in index.contigs for gene in index.overlapping(contig, 0, 10_000)]


def gtf(*lines: tuple[str, int, int, str, str], contig: str = "chr1") -> str:
    """Write (feature, start, end, strand, attributes) as GTF."""
    return "".join(f"{contig}\tsrc\t{f}\t{s}\t{e}\t.\t{strand}\t.\t{text}\n" for f, s, e, strand, text in lines)


def attributes(transcript: str, extra: str = "", gene: str = "ENSG00000000001.5", kind: str = "protein_coding") -> str:
    return f'gene_id "{gene}"; transcript_id "{transcript}"; gene_type "{kind}"; gene_name "ABC"; {extra}'


# --- finding -------------------------------------------------------------------------------------------------------


def test_genes_are_found_by_their_tss_in_a_half_open_span() -> None:
    a, b = Gene("A", "chr1", 10, "+", "g2"), Gene("B", "chr1", 10, "-", "g1")
    c, d = Gene("C", "chr1", 5, "+", "g3"), Gene("D", "chr2", 5, "+", "g4")
    index = GeneIndex([a, b, c, d], "bed")
    assert list(index.overlapping("chr1", 5, 11)) == [c, b, a]
    assert list(index.overlapping("chr1", 6, 10)) == []
    assert list(index.overlapping("chr1", -50, 6)) == [c]
    assert list(index.overlapping("chr9", 0, 99)) == []
    assert len(index) == 4
    assert index.contigs == ("chr1", "chr2")
    assert index.source == "bed"


# --- which transcript ----------------------------------------------------------------------------------------------


def test_the_tss_is_the_first_base_on_the_strand(tmp_path: Path) -> None:
    text = gtf(("transcript", 101, 200, "+", attributes("T1")), ("exon", 101, 200, "+", attributes("T1")))
    assert sites(read(tmp_path, text)) == [("ABC", "chr1", 100, "+", "ENSG00000000001")]
    text = text.replace("\t+\t", "\t-\t")
    assert sites(read(tmp_path, text)) == [("ABC", "chr1", 199, "-", "ENSG00000000001")]


def candidates(**tags: str) -> str:
    """Five transcripts of one gene that start at 101, 201, ... 501; T3 has the longest CDS, T2 the longest exons."""
    text = ""
    for number, (n_coding, n_exon) in enumerate([(10, 50), (10, 90), (30, 40), (10, 50), (10, 50)], 1):
        start, name = 100 * number + 1, f"T{number}"
        extra = tags.get(name, "")
        text += gtf(
            ("transcript", start, 900, "+", attributes(name, extra)),
            ("exon", start, start + n_exon - 1, "+", attributes(name, extra)),
            ("CDS", start, start + n_coding - 1, "+", attributes(name, extra)),
        )
    return text


@pytest.mark.parametrize(
    ("tags", "tss"),
    [
        ({"T5": 'tag "MANE_Select";', "T4": 'tag "Ensembl_canonical"; tag "appris_principal_1";'}, 500),
        ({"T5": 'tag "MANE Select";', "T4": 'tag "Ensembl_canonical";'}, 500),
        ({"T5": 'tag "basic"; tag "Ensembl_canonical";', "T4": 'tag "appris_principal_1";'}, 500),
        ({"T5": 'tag "appris_principal_2";', "T4": 'tag "appris_principal_10";'}, 500),
        ({"T5": 'tag "appris_principal_5";', "T4": 'tag "appris_alternative_1"; tag "CCDS";'}, 500),
        ({"T5": 'tag "MANE_Plus_Clinical";'}, 300),
        ({}, 300),
    ],
)
def test_tags_come_before_the_longest_cds(tmp_path: Path, tags: dict[str, str], tss: int) -> None:
    assert [gene[2] for gene in sites(read(tmp_path, candidates(**tags)))] == [tss]


def test_equal_cds_is_decided_by_exons_and_then_by_the_id(tmp_path: Path) -> None:
    text = candidates().replace("\t301\t330\t", "\t301\t310\t")
    assert [gene[2] for gene in sites(read(tmp_path, text))] == [200]
    text = text.replace("\t201\t290\t", "\t201\t250\t")
    assert [gene[2] for gene in sites(read(tmp_path, text))] == [100]


def test_exons_are_counted_and_not_the_span(tmp_path: Path) -> None:
    text = gtf(
        ("transcript", 101, 900, "+", attributes("T1")),
        ("exon", 101, 120, "+", attributes("T1")),
        ("exon", 891, 900, "+", attributes("T1")),
        ("transcript", 201, 300, "+", attributes("T2")),
        ("exon", 201, 300, "+", attributes("T2")),
    )
    assert [gene[2] for gene in sites(read(tmp_path, text))] == [200]


def test_all_gives_every_distinct_site_once(tmp_path: Path) -> None:
    text = candidates() + gtf(("transcript", 101, 950, "+", attributes("T9")))
    found = sites(read(tmp_path, text, tss="all"))
    assert [gene[2] for gene in found] == [100, 200, 300, 400, 500]
    assert {(gene[0], gene[4]) for gene in found} == {("ABC", "ENSG00000000001")}


def test_the_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    for text in (candidates(T4='tag "appris_principal_1";'), candidates()):
        lines = text.splitlines(keepends=True)
        assert sites(read(tmp_path, "".join(lines[::-1]))) == sites(read(tmp_path, text))


# --- which genes ---------------------------------------------------------------------------------------------------


def two_types() -> str:
    return gtf(
        ("transcript", 101, 200, "+", attributes("T1", gene="g1")),
        ("transcript", 301, 400, "+", attributes("T2", gene="g2", kind="lncRNA")),
    )


def test_protein_coding_genes_are_kept_by_default(tmp_path: Path) -> None:
    assert [gene[4] for gene in sites(read(tmp_path, two_types()))] == ["g1"]
    assert [gene[4] for gene in sites(read(tmp_path, two_types(), gene_types=("lncRNA",)))] == ["g2"]
    assert [gene[4] for gene in sites(read(tmp_path, two_types(), gene_types=None))] == ["g1", "g2"]


def test_no_gene_of_the_types_asked_for_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no gene of the types asked for \(rRNA\)"):
        read(tmp_path, two_types(), gene_types=("rRNA",))


def test_a_file_without_types_keeps_all_genes_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = gtf(("transcript", 101, 200, "+", 'gene_id "g1"; transcript_id "T1";'))
    assert sites(read(tmp_path, text)) == [("g1", "chr1", 100, "+", "g1")]
    assert "states no gene types" in caplog.text


def test_genes_elsewhere_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    text = two_types() + two_types().replace("chr1", "chrUn")
    assert len(read(tmp_path, text)) == 1
    assert "1 genes are on contigs that the FASTA lacks (chrUn)" in caplog.text
    with pytest.raises(InputError, match=r"none of the contigs of its genes \(chrUn"):
        read(tmp_path, two_types().replace("chr1", "chrUn"))


def test_contig_names_go_through_the_map(tmp_path: Path) -> None:
    assert sites(read(tmp_path, two_types().replace("chr1", "1")))[0][1] == "chr1"


def test_versions_are_dropped_but_par_genes_and_clone_names_stay_apart(tmp_path: Path) -> None:
    assert without_version("ENSG00000182378.15") == "ENSG00000182378"
    assert without_version("ENSG00000182378.15_PAR_Y") == "ENSG00000182378_PAR_Y"
    assert without_version("ENSMUSG00000000001.4") == "ENSMUSG00000000001"
    assert without_version("RP11-34P13.7") == "RP11-34P13.7"
    assert without_version("AC004381.6") == "AC004381.6"
    x, y = (attributes(f"T{suffix}", gene=f"ENSG00000182378.15{suffix}") for suffix in ("", "_PAR_Y"))
    text = gtf(("transcript", 11, 20, "+", x), contig="chrX") + gtf(("transcript", 31, 40, "+", y), contig="chrY")
    assert [(gene[1], gene[2], gene[4]) for gene in sites(read(tmp_path, text))] == [
        ("chrX", 10, "ENSG00000182378"),
        ("chrY", 30, "ENSG00000182378_PAR_Y"),
    ]


def test_the_same_id_on_two_contigs_is_two_genes(tmp_path: Path) -> None:
    line = attributes("T1")
    text = gtf(("transcript", 11, 20, "+", line), contig="chrX") + gtf(("transcript", 31, 40, "+", line), contig="chrY")
    assert [(gene[1], gene[2]) for gene in sites(read(tmp_path, text))] == [("chrX", 10), ("chrY", 30)]


# --- dialects ------------------------------------------------------------------------------------------------------


def test_a_gtf_with_exons_only_gives_transcripts_by_their_exons(tmp_path: Path) -> None:
    text = gtf(
        ("CDS", 150, 190, "-", attributes("T1")),
        ("exon", 301, 400, "-", attributes("T1")),
        ("exon", 101, 200, "-", attributes("T1")),
    )
    assert sites(read(tmp_path, text)) == [("ABC", "chr1", 399, "-", "ENSG00000000001")]


def test_gtf_values_may_stand_without_quotes(tmp_path: Path) -> None:
    text = candidates().replace('"', "")
    assert sites(read(tmp_path, text)) == sites(read(tmp_path, candidates()))


def test_a_refseq_gtf_has_its_types_on_gene_lines(tmp_path: Path) -> None:
    text = gtf(
        ("gene", 101, 400, "+", 'gene_id "ABC"; transcript_id ""; gene "ABC"; gene_biotype "protein_coding";'),
        ("transcript", 101, 400, "+", 'gene_id "ABC"; transcript_id "NM_2.1"; gene "ABC"; note "a; gene_id \'x\'";'),
        ("transcript", 201, 400, "+", 'gene_id "ABC"; transcript_id "NM_1.1"; gene "ABC"; tag "MANE Select";'),
        ("exon", 101, 400, "+", 'gene_id "ABC"; transcript_id "NM_2.1"; gene "ABC";'),
        ("gene", 501, 600, "+", 'gene_id "LNC"; transcript_id ""; gene "LNC"; gene_biotype "lncRNA";'),
        ("transcript", 501, 600, "+", 'gene_id "LNC"; transcript_id "NR_1.1"; gene "LNC";'),
    )
    assert sites(read(tmp_path, text)) == [("ABC", "chr1", 200, "+", "ABC")]


def test_a_file_of_gene_lines_only_gives_the_start_of_the_gene(tmp_path: Path) -> None:
    text = gtf(("gene", 101, 400, "-", 'gene_id "g1"; gene_biotype "protein_coding"; gene_name "ABC";'))
    assert sites(read(tmp_path, text)) == [("ABC", "chr1", 399, "-", "g1")]


def tabbed(text: str) -> str:
    """Put tabs between the nine columns of features written with blanks."""
    return "".join(
        "\t".join(line.split(None, 8)) + "\n" if line[0].isalnum() else line + "\n" for line in text.splitlines()
    )


GFF3 = {
    "ensembl": tabbed("""##gff-version 3
##sequence-region   1 1 10000
#!genome-build GRCh38.p13
1 h chromosome 1 10000 . . . ID=chromosome:1;Alias=chr1
###
1 h gene 101 900 . - . ID=gene:ENSG00000000001;Name=ABC;biotype=protein_coding;gene_id=ENSG00000000001;version=5
1 h mRNA 101 800 . - . ID=transcript:T1;Parent=gene:ENSG00000000001;biotype=protein_coding;transcript_id=T1
1 h exon 101 800 . - . Parent=transcript:T1
1 h CDS 501 800 . - 0 ID=CDS:P1;Parent=transcript:T1
1 h mRNA 101 900 . - . ID=transcript:T2;Parent=gene:ENSG00000000001;tag=basic,Ensembl_canonical
1 h five_prime_UTR 101 150 . - . Parent=transcript:T2
1 h ncRNA_gene 1001 1900 . + . ID=gene:ENSG00000000002;biotype=lncRNA;gene_id=ENSG00000000002
1 h lnc_RNA 1001 1900 . + . ID=transcript:T3;Parent=gene:ENSG00000000002;biotype=lncRNA
"""),
    "gencode": tabbed("""##gff-version 3
#description: evidence-based annotation of the human genome (GRCh38), version 44 (Ensembl 110)
chr1 H gene 101 900 . - . ID=ENSG00000000001.5;gene_id=ENSG00000000001.5;gene_type=protein_coding;gene_name=ABC
chr1 H transcript 101 900 . - . ID=T2.1;Parent=ENSG00000000001.5;transcript_id=T2.1;tag=basic,MANE_Select,CCDS
chr1 H exon 101 900 . - . ID=exon:T2.1:1;Parent=T2.1
chr1 H transcript 101 800 . - . ID=T1.1;Parent=ENSG00000000001.5;transcript_id=T1.1;tag=Ensembl_canonical
chr1 H CDS 501 800 . - 0 ID=CDS:T1.1;Parent=T1.1
chr1 H gene 1001 1900 . + . ID=ENSG00000000002.1;gene_id=ENSG00000000002.1;gene_type=lncRNA;gene_name=LNC
chr1 H transcript 1001 1900 . + . ID=T3.1;Parent=ENSG00000000002.1
"""),
    "refseq": tabbed("""##gff-version 3
#!genome-build GRCh38.p14
#!genome-build-accession NCBI_Assembly:GCF_000001405.40
chr1 R region 1 10000 . + . ID=NC_1:1..10000;Dbxref=taxon:9606
chr1 R mRNA 101 900 . - . ID=rna-NM_2.1;Parent=gene-ABC;Dbxref=GeneID:1,Genbank:NM_2.1;Name=NM_2.1;tag=MANE Select
chr1 R exon 101 900 . - . ID=exon-NM_2.1-1;Parent=rna-NM_2.1
chr1 R gene 101 900 . - . ID=gene-ABC;Name=ABC;gbkey=Gene;gene=ABC;gene_biotype=protein_coding
chr1 R mRNA 101 800 . - . ID=rna-NM_1.1;Parent=gene-ABC;tag=RefSeq Select
chr1 R CDS 501 800 . - 0 ID=cds-NP_1;Parent=rna-NM_1.1
chr1 R cDNA_match 1 50 . + . ID=a;Target=NM_2.1 1 50 +
chr1 R gene 1001 1900 . + . ID=gene-LNC;Name=LNC;gene_biotype=lncRNA
chr1 R lnc_RNA 1001 1900 . + . ID=rna-NR_1;Parent=gene-LNC
##FASTA
>chr1
ACGT
"""),
}


@pytest.mark.parametrize("dialect", GFF3)
def test_gff3_of_every_large_source_is_read(tmp_path: Path, dialect: str) -> None:
    index = read(tmp_path, GFF3[dialect], assembly=None if dialect == "refseq" else "hg38")
    gene_id = "ABC" if dialect == "refseq" else "ENSG00000000001"
    assert sites(index) == [("ABC", "chr1", 899, "-", gene_id)]
    assert index.source == "gff3"
    assert [gene[2] for gene in sites(read(tmp_path, GFF3[dialect], tss="all"))] == [799, 899]
    assert len(read(tmp_path, GFF3[dialect], gene_types=None)) == 2


def test_escapes_in_gff3_names_are_resolved(tmp_path: Path) -> None:
    text = GFF3["ensembl"].replace("Name=ABC", "Name=A%2CB%3D")
    assert sites(read(tmp_path, text))[0][0] == "A,B="


def test_bed_gives_the_start_for_plus_and_the_last_base_for_minus(tmp_path: Path) -> None:
    text = "#c\ntrack name=x\nchr1\t100\t200\tA\t0\t+\nchr1\t100\t200\tB\t0\t-\textra\nchr1\t100\t150\tA\t0\t+\n"
    index = read(tmp_path, text)
    assert sites(index) == [("A", "chr1", 100, "+", "A"), ("B", "chr1", 199, "-", "B")]
    assert index.source == "bed"


def test_every_line_of_a_bed_file_is_a_site(tmp_path: Path) -> None:
    text = "1\t100\t200\tA\t0\t+\n1\t150\t200\tA\t0\t+\n"
    assert [gene[2] for gene in sites(read(tmp_path, text))] == [100, 150]


def test_the_table_of_expecto_gives_its_cage_site_counted_from_one(tmp_path: Path) -> None:
    text = (
        "id,symbol,seqnames,strand,TSS,CAGE_representative_TSS,type\n"
        "g1,ABC,chr1,-,500,450,protein_coding\ng2,LNC,chr2,+,700,701,lincRNA\n"
    )
    index = read(tmp_path, text)
    assert sites(index) == [("ABC", "chr1", 449, "-", "g1")]
    assert index.source == "expecto"
    assert len(read(tmp_path, text, gene_types=None)) == 2


@pytest.mark.parametrize("form", ["gzip", "bgzf", "windows"])
def test_compression_and_line_ends_do_not_matter(tmp_path: Path, form: str) -> None:
    path, plain = tmp_path / "genes.gz", tmp_path / "plain"
    plain.write_text(GFF3["gencode"])
    if form == "gzip":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif form == "bgzf":
        pysam.tabix_compress(str(plain), str(path))
    else:
        path.write_bytes(plain.read_bytes().replace(b"\n", b"\r\n"))
    assert sites(read_genes(path, ContigMap(CONTIGS), CONTIGS)) == sites(read(tmp_path, GFF3["gencode"]))


def test_the_shipped_example_has_two_genes() -> None:
    path = ROOT / "example_data" / "ntng1.gff3"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    lengths = {"NTNG1": 343_452, "MKNK1": 59_466}
    index = read_genes(path, ContigMap(lengths), lengths)
    found = [gene for contig in index.contigs for gene in index.overlapping(contig, 0, 10**6)]
    assert [(gene.name, gene.tss, gene.strand) for gene in found] == [("MKNK1", 28_861, "-"), ("NTNG1", 10, "+")]


# --- wrong files ---------------------------------------------------------------------------------------------------


def test_names_of_one_assembly_are_equal() -> None:
    assert same_assembly("hg19", "GRCh37.p13")
    assert same_assembly("b37", "hs37d5")
    assert same_assembly("GRCh38.p14", "hg38")
    assert same_assembly("mm10", "GRCm38.p6")
    assert same_assembly("mm39", "GRCm39")
    assert not same_assembly("hg19", "hg38")
    assert not same_assembly("mm10", "mm39")


@pytest.mark.parametrize(
    ("header", "assembly", "is_wrong"),
    [
        ("#!genome-build GRCh38.p13\n#!genome-version GRCh38\n", "hg19", True),
        ("#!genome-build GRCh38.p13\n#!genome-version GRCh38\n", "hg38", False),
        ("##genome-build GRCh37\n", "hg38", True),
        ("##description: evidence-based annotation of the human genome (GRCh37), version 19\n", "GRCh38", True),
        ("##description: evidence-based annotation of the human genome (GRCh37), version 19\n", "hg19", False),
        ("#!genome-build-accession NCBI:GCA_000001405.28\n", "hg19", False),
        ("#!genome-build GRCh38\n", None, False),
        ("", "hg19", False),
    ],
)
def test_an_annotation_of_another_assembly_stops(
    tmp_path: Path, header: str, assembly: str | None, is_wrong: bool
) -> None:
    if is_wrong:
        with pytest.raises(InputError, match="was made for the assembly"):
            read(tmp_path, header + two_types(), assembly=assembly)
    else:
        assert len(read(tmp_path, header + two_types(), assembly=assembly)) == 1


@pytest.mark.parametrize(
    "text",
    [
        gtf(("transcript", 9001, 10001, "+", attributes("T1"))),
        "chr1\t9000\t10001\tABC\t0\t+\n",
        "id,symbol,seqnames,strand,TSS,CAGE_representative_TSS,type\ng1,ABC,chr1,+,10001,10001,protein_coding\n",
        "##sequence-region chr1 1 10001\n" + GFF3["gencode"],
    ],
)
def test_a_gene_beyond_its_contig_stops(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="ends at 10,001, but chr1 of the FASTA has 10,000 bases"):
        read(tmp_path, text)


def test_a_gene_may_end_with_its_contig(tmp_path: Path) -> None:
    assert len(read(tmp_path, gtf(("transcript", 9001, 10000, "-", attributes("T1"))))) == 1


@pytest.mark.parametrize(
    ("bad", "value"),
    [
        ("chr1\tsrc\ttranscript\t5\n", "chr1"),
        ("chr1 src transcript 1 5 . + . x\n", "chr1 src"),
        (gtf(("transcript", 9, 5, "+", attributes("T1"))), "9"),
        (gtf(("transcript", 0, 5, "+", attributes("T1"))), "0"),
        (gtf(("exon", 1, 5, "+", attributes("T1"))).replace("\t5\t", "\tx\t"), "x"),
        (gtf(("transcript", 1, 5, "+", 'transcript_id "T1";')), "T1"),
        (gtf(("transcript", 1, 5, "+", 'gene_id "g1";')), "g1"),
        (gtf(("exon", 1, 5, "+", 'gene_id "g1";')), "g1"),
        (gtf(("gene", 1, 5, "+", 'gene_name "A";')), "A"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, bad: str, value: str) -> None:
    with pytest.raises(InputError, match=rf"genes\.txt, line 3: .*{value}.* is no feature"):
        read(tmp_path, two_types() + bad)


@pytest.mark.parametrize(
    "bad",
    [
        "chr1\t5\t9\tA\n",
        "chr1\t5\t9\tA\t0\t.\n",
        "chr1\tx\t9\tA\t0\t+\n",
        "chr1\t9\t9\tA\t0\t+\n",
        "chr1\t-1\t9\tA\t0\t+\n",
    ],
)
def test_a_malformed_bed_line_is_named(tmp_path: Path, bad: str) -> None:
    with pytest.raises(InputError, match=r"genes\.txt, line 2: .*chr1.* is no gene"):
        read(tmp_path, "chr1\t5\t9\tA\t0\t+\n" + bad)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,symbol,seqnames,CAGE_representative_TSS,type\n", "lacks the columns strand"),
        ("id,symbol,seqnames,strand,TSS,CAGE_representative_TSS,type\ng,A,chr1,+,5,NA,x\n", "line 2: .*'NA'"),
        ("id,symbol,seqnames,strand,TSS,CAGE_representative_TSS,type\ng,A,chr1,+,5,0,x\n", "line 2: .*'0'"),
        ("id,symbol,seqnames,strand,TSS,CAGE_representative_TSS,type\ng,A\n", "line 2"),
    ],
)
def test_a_malformed_table_of_expecto_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize("text", ["", "hello\n", ">chr1\nACGT\n", "##fileformat=VCFv4.2\nchr1\t5\t.\tA\tC\t.\t.\t.\n"])
def test_a_file_of_another_format_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="neither GTF, GFF3, BED nor"):
        read(tmp_path, text)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.gtf"):
        read_genes(tmp_path / "no.gtf", ContigMap(CONTIGS), CONTIGS)
