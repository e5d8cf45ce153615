"""Genes and transcripts of GTF and GFF3 files, as far as the choice of a transcription start site needs them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from varfm.digits import is_whole
from varfm.errors import InputError

# `key "value"` or `key value`; a value in quotes may hold a semicolon.
_GTF_ATTRIBUTE = re.compile(rb'(\w+)\s+(?:"([^"]*)"|([^";\s]+))')
_GTF_TRANSCRIPT = re.compile(rb'(?:^|[;\s])transcript_id\s+(?:"([^"]*)"|([^";\s]+))')
_GFF3_PARENT = re.compile(rb"(?:^|;)\s*Parent=([^;]*)")
_GFF3_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_ENSEMBL_VERSION = re.compile(r"^(ENS[A-Z]*\d{11})\.\d+")
_APPRIS = re.compile(r"appris_principal(?:_(\d+))?$")
_HUMAN_BUILD = re.compile(r"\bgenome \(([^)]+)\)")  # GENCODE's ##description line
_GENE_TYPES = ("gene_biotype", "gene_type", "biotype", "type")
_GFF3_PARTS = frozenset(
    (b"exon", b"CDS", b"five_prime_UTR", b"three_prime_UTR", b"start_codon", b"stop_codon", b"intron")
)

_NO_APPRIS = 99
Attributes = dict[str, list[str]]


@dataclass(slots=True)
class AnnotatedGene:
    """A gene line. Places are 1-based, both ends included, as in the file; so in `Transcript`."""

    contig: str
    gene_id: str
    name: str
    gene_type: str | None
    start: int
    end: int
    strand: str
    line: int


@dataclass(slots=True)
class Transcript:
    """A transcript, with the lengths of its exons and coding sequence in bases.

    Attributes:
        gene: Key of its gene in `Annotation.genes`.
        is_declared: False while only parts of it were seen, in files without transcript lines to the end.
    """

    contig: str
    transcript_id: str
    gene: tuple[str, str]
    start: int
    end: int
    strand: str
    line: int
    is_declared: bool = False
    mane_select: bool = False
    canonical: bool = False
    appris: int = _NO_APPRIS
    n_exon_bases: int = 0
    n_coding_bases: int = 0

    @property
    def rank(self) -> tuple[bool, bool, int, int, int, str]:
        """What the best transcript of a gene has the lowest of."""
        n_bases = self.n_exon_bases or self.end - self.start + 1
        return (
            not self.mane_select,
            not self.canonical,
            self.appris,
            -self.n_coding_bases,
            -n_bases,
            self.transcript_id,
        )


@dataclass(slots=True)
class Annotation:
    """What an annotation file says.

    Attributes:
        genes: By (contig, id in the file); the same id on X and Y is two genes.
        transcripts: By (contig, id in the file).
        assembly: As the file's header states it, or None.
        contig_ends: Lengths of contigs that the header states, with their line.
    """

    genes: dict[tuple[str, str], AnnotatedGene] = field(default_factory=dict)
    transcripts: dict[tuple[bytes, bytes], Transcript] = field(default_factory=dict)
    assembly: str | None = None
    contig_ends: list[tuple[str, int, int]] = field(default_factory=list)


def without_version(gene_id: str) -> str:
    """Drop the version of an Ensembl id; `_PAR_Y` stays, and so does `.7` in a name such as RP11-34P13.7."""
    return _ENSEMBL_VERSION.sub(r"\1", gene_id)


def read_annotation(path: str, lines: Iterable[bytes], is_gff3: bool) -> Annotation:
    """Collect genes and transcripts, in any order of lines.

    Args:
        path: As errors call the file.
        lines: Lines without ends.
        is_gff3: `key=value` attributes and parents, else GTF.

    Raises:
        InputError: If a line is malformed, with its number and content.
    """
    annotation = Annotation()
    add = _add_gff3 if is_gff3 else _add_gtf
    for number, line in enumerate(lines, 1):
        if line.startswith(b"#"):
            if line.startswith(b"##FASTA"):
                break
            _read_header(annotation, line, number)
        elif line:
            try:
                add(annotation, line.split(b"\t"), number)
            except (ValueError, IndexError):
                raise InputError(
                    f"{path}, line {number:,}: {line[:120].decode('utf-8', 'replace')!r} is no feature. Expected nine "
                    "columns separated by tabs, with 1 <= start <= end in columns 4 and 5, and the ids of gene and "
                    "transcript. Repair the file or download it again."
                ) from None
    return annotation


def _read_header(annotation: Annotation, line: bytes, number: int) -> None:
    words = line.decode("utf-8", "replace").lstrip("#!").split()
    if len(words) > 1 and words[0] in ("genome-build", "genome-version"):
        # NCBI's ##genome-build has the source before the name; the version line, which comes second, is as good.
        annotation.assembly = words[-1]
    elif words[:1] == ["description:"]:
        match = _HUMAN_BUILD.search(" ".join(words))
        annotation.assembly = match[1] if match else annotation.assembly
    elif len(words) == 4 and words[0] == "sequence-region" and is_whole(words[3]):
        annotation.contig_ends.append((words[1], int(words[3]), number))


def _span(fields: list[bytes]) -> tuple[int, int]:
    start, end = int(fields[3]), int(fields[4])
    if not 1 <= start <= end:
        raise ValueError
    return start, end


def _add_gtf(annotation: Annotation, fields: list[bytes], number: int) -> None:
    feature, attributes = fields[2], fields[8]
    if feature in (b"exon", b"CDS"):
        match = _GTF_TRANSCRIPT.search(attributes)
        if match is None:
            raise ValueError
        transcript_id = match[1] or match[2]
        if not transcript_id:
            return
        transcript = annotation.transcripts.get((fields[0], transcript_id))
        if transcript is None:
            transcript = _gtf_transcript(annotation, fields, number)
        _add_part(transcript, feature, *_span(fields))
    elif feature == b"transcript":
        _gtf_transcript(annotation, fields, number, is_declared=True)
    elif feature == b"gene":
        _gtf_gene(annotation, fields, _gtf_attributes(attributes), number)


def _add_part(transcript: Transcript, feature: bytes, start: int, end: int) -> None:
    if feature == b"CDS":
        transcript.n_coding_bases += end - start + 1
    else:
        transcript.n_exon_bases += end - start + 1
    if not transcript.is_declared:
        transcript.start, transcript.end = min(transcript.start, start), max(transcript.end, end)


def _gtf_attributes(text: bytes) -> Attributes:
    attributes: Attributes = {}
    for key, quoted, bare in _GTF_ATTRIBUTE.findall(text):
        attributes.setdefault(key.decode(), []).append((quoted or bare).decode("utf-8", "replace"))
    return attributes


def _gtf_gene(annotation: Annotation, fields: list[bytes], attributes: Attributes, number: int) -> None:
    contig, (start, end) = _text(fields[0]), _span(fields)
    gene_id = attributes.get("gene_id", [""])[0]
    if not gene_id:
        raise ValueError
    known = annotation.genes.get((contig, gene_id))
    gene_type = _first(attributes, _GENE_TYPES) or (known.gene_type if known else None)
    name = _first(attributes, ("gene_name", "gene")) or (known.name if known else without_version(gene_id))
    gene = AnnotatedGene(contig, gene_id, name, gene_type, start, end, _text(fields[6]), number)
    if known:
        gene.start, gene.end = min(start, known.start), max(end, known.end)
    annotation.genes[contig, gene_id] = gene


def _gtf_transcript(annotation: Annotation, fields: list[bytes], number: int, is_declared: bool = False) -> Transcript:
    attributes = _gtf_attributes(fields[8])
    transcript_id = attributes["transcript_id"][0] if "transcript_id" in attributes else ""
    gene_id = attributes["gene_id"][0] if "gene_id" in attributes else ""
    if not transcript_id or not gene_id:
        raise ValueError
    contig = _text(fields[0])
    if (contig, gene_id) not in annotation.genes:
        _gtf_gene(annotation, fields, attributes, number)
    key = (fields[0], transcript_id.encode())
    transcript = Transcript(contig, transcript_id, (contig, gene_id), *_span(fields), _text(fields[6]), number)
    return _declare(annotation, key, transcript, attributes) if is_declared else _keep(annotation, key, transcript)


def _keep(annotation: Annotation, key: tuple[bytes, bytes], transcript: Transcript) -> Transcript:
    return annotation.transcripts.setdefault(key, transcript)


def _declare(
    annotation: Annotation, key: tuple[bytes, bytes], transcript: Transcript, attributes: Attributes
) -> Transcript:
    """Take the transcript's own line; lengths of parts that came before it are kept."""
    known = annotation.transcripts.get(key)
    if known is not None:
        transcript.n_exon_bases, transcript.n_coding_bases = known.n_exon_bases, known.n_coding_bases
    transcript.is_declared = True
    for tag in attributes.get("tag", ()):
        appris = _APPRIS.match(tag)
        if tag in ("MANE_Select", "MANE Select"):
            transcript.mane_select = True
        elif tag == "Ensembl_canonical":
            transcript.canonical = True
        elif appris:
            transcript.appris = min(transcript.appris, int(appris[1] or 1))
    annotation.transcripts[key] = transcript
    return transcript


def _add_gff3(annotation: Annotation, fields: list[bytes], number: int) -> None:
    feature, text = fields[2], fields[8]
    if feature in (b"exon", b"CDS"):
        match = _GFF3_PARENT.search(text)
        for parent in match[1].split(b",") if match else ():
            _add_part(_gff3_parent(annotation, fields, parent, number), feature, *_span(fields))
        return
    if feature in _GFF3_PARTS or b"ID=" not in text:
        return
    attributes = _gff3_attributes(text)
    if "ID" not in attributes:
        return
    if "Parent" in attributes:
        _gff3_transcript(annotation, fields, attributes, number)
    elif feature.endswith(b"gene") or "gene_id" in attributes:
        _gff3_gene(annotation, fields, attributes, number)


def _gff3_parent(annotation: Annotation, fields: list[bytes], parent: bytes, number: int) -> Transcript:
    key = (fields[0], parent.strip())
    known = annotation.transcripts.get(key)
    if known is not None:
        return known
    contig, (start, end) = _text(fields[0]), _span(fields)
    return _keep(annotation, key, Transcript(contig, "", (contig, ""), start, end, _text(fields[6]), number))


def _gff3_attributes(text: bytes) -> Attributes:
    attributes: Attributes = {}
    for pair in text.split(b";"):
        key, equals, values = pair.partition(b"=")
        if equals:
            attributes[_text(key.strip())] = [_unescaped(value) for value in values.strip().split(b",")]
    return attributes


def _gff3_gene(annotation: Annotation, fields: list[bytes], attributes: Attributes, number: int) -> None:
    contig, (start, end) = _text(fields[0]), _span(fields)
    key = attributes["ID"][0]
    gene_id = _first(attributes, ("gene_id",)) or key.removeprefix("gene:").removeprefix("gene-")
    name = _first(attributes, ("gene_name", "Name", "gene")) or without_version(gene_id)
    gene_type = _first(attributes, _GENE_TYPES)
    annotation.genes[contig, key] = AnnotatedGene(
        contig, gene_id, name, gene_type, start, end, _text(fields[6]), number
    )


def _gff3_transcript(annotation: Annotation, fields: list[bytes], attributes: Attributes, number: int) -> None:
    contig, (start, end) = _text(fields[0]), _span(fields)
    identifier = attributes["ID"][0]
    transcript_id = _first(attributes, ("transcript_id",)) or identifier.removeprefix("transcript:").removeprefix(
        "rna-"
    )
    gene = (contig, attributes["Parent"][0])
    transcript = Transcript(contig, transcript_id, gene, start, end, _text(fields[6]), number)
    _declare(annotation, (fields[0], identifier.encode()), transcript, attributes)


def _first(attributes: Attributes, keys: Iterable[str]) -> str | None:
    for key in keys:
        if attributes.get(key, [""])[0]:
            return attributes[key][0]
    return None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _unescaped(value: bytes) -> str:
    return _GFF3_ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), value).decode("utf-8", "replace")
