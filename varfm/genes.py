"""Where transcription starts: one site per gene from GTF, GFF3, BED or ExPecto's table, found by place."""

from __future__ import annotations

import csv
import logging
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import Literal, NamedTuple

from varfm.annotation import AnnotatedGene, Annotation, Transcript, read_annotation, without_version
from varfm.contigs import ContigMap
from varfm.digits import counted, is_whole
from varfm.errors import InputError
from varfm.io.lines import read_lines
from varfm.windows import Gene, Strand

_log = logging.getLogger(__name__)

Source = Literal["gtf", "gff3", "bed", "expecto"]
TssChoice = Literal["representative", "all"]

PROTEIN_CODING = ("protein_coding",)
_EXPECTO_COLUMNS = ("id", "symbol", "seqnames", "strand", "CAGE_representative_TSS", "type")
_SAME_ASSEMBLY = {
    "hg19": "grch37", "b37": "grch37", "hs37": "grch37", "hs37d5": "grch37", "hg38": "grch38", "hs38": "grch38",
    "b38": "grch38", "mm10": "grcm38", "mm39": "grcm39", "hs1": "t2t-chm13v2.0",
}  # fmt: skip
_SPECIES = {
    "grch37": "human", "grch38": "human", "t2t-chm13v2.0": "human", "grcm38": "mouse", "grcm39": "mouse",
}  # fmt: skip


class _Tss(NamedTuple):
    """A start site as the file has it: contig by its name there, `end` the last base that must exist, 1-based."""

    contig: str
    tss: int  # 0-based
    end: int
    strand: str
    name: str
    gene_id: str
    line: int


class GeneIndex:
    """Genes by place.

    Args:
        genes: In any order; contigs named as in the FASTA.
        source: One word for the header of the output.
    """

    def __init__(self, genes: Iterable[Gene], source: Source) -> None:
        self.source = source
        by_contig: dict[str, list[Gene]] = {}
        for gene in sorted(genes, key=lambda gene: (gene.contig, gene.tss, gene.gene_id)):
            by_contig.setdefault(gene.contig, []).append(gene)
        self._genes = by_contig
        self._starts = {contig: [gene.tss for gene in genes] for contig, genes in by_contig.items()}

    def __len__(self) -> int:
        """Give the number of start sites."""
        return sum(map(len, self._genes.values()))

    @property
    def contigs(self) -> tuple[str, ...]:
        """The contigs that have a gene, as named in the FASTA."""
        return tuple(self._genes)

    def overlapping(self, contig: str, start: int, end: int) -> Sequence[Gene]:
        """Give the genes whose TSS lies in [start, end), 0-based, in order of TSS, then gene id."""
        starts = self._starts.get(contig)
        if starts is None:
            return ()
        return self._genes[contig][bisect_left(starts, start) : bisect_left(starts, end)]


@dataclass(frozen=True, slots=True)
class _Choice:
    gene_types: frozenset[str] | None
    tss: TssChoice


def read_genes(
    path: str | Path,
    contig_map: ContigMap,
    genome_lengths: Mapping[str, int],
    *,
    gene_types: Sequence[str] | None = PROTEIN_CODING,
    tss: TssChoice = "representative",
    assembly: str | None = None,
    model_assembly: str | None = None,
) -> GeneIndex:
    """Read a gene annotation; its content, not its name, tells the format.

    A gene's site is the first base of its best transcript: MANE Select, Ensembl canonical, APPRIS principal (lowest
    number), longest CDS, longest transcript (exons), lowest transcript id, in this order. A line of a BED file is a
    site: its start for `+`, its end - 1 for `-`. ExPecto's table gives `CAGE_representative_TSS`.

    Args:
        path: GTF, GFF3, BED with at least six columns, or ExPecto's `geneanno.csv`; plain, gzip or BGZF.
        contig_map: Finds the FASTA's names.
        genome_lengths: Names and lengths of the FASTA.
        gene_types: Types to keep; None for all. BED has none.
        tss: `all` gives every distinct site of the kept genes.
        assembly: Of the VCF; None if not known.
        model_assembly: The one whose sequence trained the model; another assembly of the same species will do.

    Returns:
        The genes on contigs of the FASTA; how many are elsewhere is logged.

    Raises:
        InputError: If the file is missing or malformed, was made for another assembly, or has no gene in the FASTA.
    """
    choice = _Choice(None if gene_types is None else frozenset(gene_types), tss)
    lines = read_lines(path)
    head = list(islice(lines, 1000))
    source = _sniff(path, head)
    if source in ("gtf", "gff3"):
        annotation = read_annotation(str(path), chain(head, lines), source == "gff3")
        _check_species(path, annotation.assembly, model_assembly)
        _check_assembly(path, annotation, contig_map, genome_lengths, assembly)
        sites: Iterable[_Tss] = _annotated_sites(path, annotation, choice)
    else:
        sites = (_bed_sites if source == "bed" else _expecto_sites)(path, chain(head, lines), choice)
    return GeneIndex(_placed(path, _some_sites(path, sites, choice), contig_map, genome_lengths), source)


def _some_sites(path: str | Path, sites: Iterable[_Tss], choice: _Choice) -> list[_Tss]:
    found = list(sites)
    if not found:
        types = "all" if choice.gene_types is None else ", ".join(sorted(choice.gene_types))
        raise InputError(f"{path} has no gene of the types asked for ({types}). Widen --gene-types.")
    return found


def _sniff(path: str | Path, head: Sequence[bytes]) -> Source:
    first = next((line for line in head if line.strip() and not line.startswith((b"#", b"track", b"browser"))), b"")
    fields = first.split(b"\t")
    if first.startswith(b"id,") and b"CAGE_representative_TSS" in first:
        return "expecto"
    if len(fields) >= 9 and re.match(rb'\s*\w+\s+["\w]', fields[8]):
        return "gtf"
    if len(fields) >= 9 and b"=" in fields[8] and not fields[1].isdigit():
        return "gff3"
    if len(fields) >= 3 and fields[1].isdigit() and fields[2].isdigit():
        return "bed"
    if head and head[0].startswith(b"##gff-version"):
        return "gff3"
    raise InputError(
        f"{path} is neither GTF, GFF3, BED nor ExPecto's geneanno.csv: its first line of data is "
        f"{first[:80].decode('utf-8', 'replace')!r}. Give one of these to --genes."
    )


def same_assembly(one: str, other: str) -> bool:
    """Tell whether two names mean the same assembly: hg19, b37 and GRCh37.p13, for example."""
    return _normalised(one) == _normalised(other)


def _normalised(assembly: str) -> str:
    name = re.sub(r"\.p\d+$", "", assembly.strip().lower())
    return _SAME_ASSEMBLY.get(name, name)


def _check_species(path: str | Path, stated: str | None, model_assembly: str | None) -> None:
    of_file, of_model = (_SPECIES.get(_normalised(name)) if name else None for name in (stated, model_assembly))
    if of_file and of_model and of_file != of_model:
        raise InputError(
            f"{path} was made for {stated}, a {of_file} assembly, but the model was trained on {of_model} sequence. "
            f"Give a {of_model} annotation, FASTA and VCF, or the model for {of_file}."
        )


def _check_assembly(
    path: str | Path,
    annotation: Annotation,
    contig_map: ContigMap,
    genome_lengths: Mapping[str, int],
    assembly: str | None,
) -> None:
    stated = annotation.assembly
    if stated and assembly and not same_assembly(stated, assembly):
        raise InputError(
            f"{path} was made for the assembly {stated}, but {assembly} is scored. Give the annotation of {assembly}."
        )
    for name, end, line in annotation.contig_ends:
        contig = contig_map.resolve(name)
        if contig is not None and end > genome_lengths[contig]:
            raise _beyond(path, line, f"contig {name} ends at {end:,}", contig, genome_lengths[contig])


def _beyond(path: str | Path, line: int, what: str, contig: str, length: int) -> InputError:
    return InputError(
        f"{path}, line {line:,}: {what}, but {contig} of the FASTA has {counted(length, 'base')}. "
        "The file was made for another assembly: give the annotation of the FASTA's."
    )


def _annotated_sites(path: str | Path, annotation: Annotation, choice: _Choice) -> list[_Tss]:
    genes = _kept_genes(path, annotation, choice)
    transcripts: dict[tuple[str, str], list[Transcript]] = {}
    for transcript in annotation.transcripts.values():
        gene = genes.get(transcript.gene)
        if gene is not None and transcript.strand in ("+", "-"):
            transcripts.setdefault((gene.contig, without_version(gene.gene_id)), []).append(transcript)
    sites = []
    seen = set()
    for gene in genes.values():
        key = (gene.contig, without_version(gene.gene_id))
        if key not in seen:
            seen.add(key)
            sites += _gene_sites(gene, transcripts.get(key, []), choice)
    return sites


def _kept_genes(path: str | Path, annotation: Annotation, choice: _Choice) -> dict[tuple[str, str], AnnotatedGene]:
    if choice.gene_types is None:
        return annotation.genes
    if not any(gene.gene_type for gene in annotation.genes.values()):
        if annotation.genes:
            _log.warning("%s states no gene types: all of its %d genes are kept.", path, len(annotation.genes))
        return annotation.genes
    return {key: gene for key, gene in annotation.genes.items() if gene.gene_type in choice.gene_types}


def _gene_sites(gene: AnnotatedGene, transcripts: Sequence[Transcript], choice: _Choice) -> list[_Tss]:
    gene_id = without_version(gene.gene_id)
    spans: list[AnnotatedGene | Transcript] = [*sorted(transcripts, key=attrgetter("rank"))]
    if not spans and gene.strand in ("+", "-"):
        spans = [gene]  # a file of gene lines only
    if choice.tss == "representative":
        spans = spans[:1]
    sites: dict[tuple[int, str], _Tss] = {}
    for span in spans:
        tss = span.start - 1 if span.strand == "+" else span.end - 1
        site = _Tss(span.contig, tss, span.end, span.strand, gene.name, gene_id, span.line)
        sites.setdefault((tss, span.strand), site)
    return list(sites.values())


def _bed_sites(path: str | Path, lines: Iterable[bytes], choice: _Choice) -> Iterator[_Tss]:
    seen = set()
    for number, raw in enumerate(lines, 1):
        if not raw.strip() or raw.startswith((b"#", b"track", b"browser")):
            continue
        fields = raw.decode("utf-8", "surrogateescape").split("\t")
        is_site = len(fields) >= 6 and is_whole(fields[1]) and is_whole(fields[2]) and fields[5] in ("+", "-")
        if not is_site or int(fields[1]) >= int(fields[2]):
            raise InputError(
                f"{path}, line {number:,}: {' '.join(fields[:6])[:120]!r} is no gene. Expected contig, start, end, "
                "name, score and strand (+ or -), separated by tabs, with 0 <= start < end."
            )
        contig, start, end, name, _, strand = fields[:6]
        tss = int(start) if strand == "+" else int(end) - 1
        site = _Tss(contig, tss, int(end), strand, name, without_version(name), number)
        if site[:2] + site[3:6] not in seen:
            seen.add(site[:2] + site[3:6])
            yield site


def _expecto_sites(path: str | Path, lines: Iterable[bytes], choice: _Choice) -> Iterator[_Tss]:
    for number, row in enumerate(_expecto_rows(path, lines), 2):
        tss, strand = row["CAGE_representative_TSS"], row["strand"]
        if not is_whole(tss) or int(tss) < 1 or strand not in ("+", "-"):
            raise InputError(
                f"{path}, line {number:,}: CAGE_representative_TSS {tss!r} on strand {strand!r} is no start site. "
                "Download the file again."
            )
        if choice.gene_types is None or row["type"] in choice.gene_types:
            gene_id = without_version(row["id"])
            # 1-based: the authors' own BED of the same sites has it as the end of a span of one base.
            yield _Tss(row["seqnames"], int(tss) - 1, int(tss), strand, row["symbol"] or gene_id, gene_id, number)


def _expecto_rows(path: str | Path, lines: Iterable[bytes]) -> Iterator[dict[str, str]]:
    """Give the rows of ExPecto's table; a field that is not there is empty."""
    rows = csv.DictReader((line.decode("utf-8", "replace") for line in lines), restval="")
    try:
        missing = [column for column in _EXPECTO_COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise InputError(
                f"{path} lacks the columns {', '.join(missing)} of ExPecto's geneanno.csv. Download it again."
            )
        yield from rows
    except csv.Error as error:
        raise InputError(
            f"{path}, line {rows.line_num + 1:,}: no row of a CSV ({error}). Download it again."
        ) from error


def _placed(
    path: str | Path, sites: Iterable[_Tss], contig_map: ContigMap, genome_lengths: Mapping[str, int]
) -> list[Gene]:
    genes = []
    elsewhere: Counter[str] = Counter()
    for site in sites:
        contig = contig_map.resolve(site.contig)
        if contig is None:
            elsewhere[site.contig] += 1
            continue
        if site.end > genome_lengths[contig]:
            raise _beyond(path, site.line, f"{site.name} ends at {site.end:,}", contig, genome_lengths[contig])
        strand: Strand = "+" if site.strand == "+" else "-"
        genes.append(Gene(site.name, contig, site.tss, strand, site.gene_id))
    names = ", ".join(name for name, _ in elsewhere.most_common(3))
    if not genes:
        raise InputError(
            f"{path}: none of the contigs of its genes ({names}, ...) is in the FASTA. Give the annotation of the "
            "FASTA's assembly, or map the names with --contig-map."
        )
    if elsewhere:
        _log.info("%s: %d genes are on contigs that the FASTA lacks (%s).", path, elsewhere.total(), names)
    return genes
