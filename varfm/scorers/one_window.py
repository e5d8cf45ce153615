"""Saturation mutagenesis within one window: the alleles move through it, the window stays."""

from __future__ import annotations

from dataclasses import dataclass, fields

from varfm.errors import OptionError
from varfm.protocols import Scorer
from varfm.scorers.placement import Centred
from varfm.windows import Haplotype, Pair, Site, Window, grown_right


@dataclass(frozen=True, slots=True, kw_only=True)
class OneWindow(Centred):
    """The same reference window for every allele, left-fixed.

    Attributes:
        start: 0-based first base of the window that is not shifted.
    """

    start: int

    def pairs(self, site: Site, shift: int) -> list[Pair]:
        """Give the one comparison: an allele of another length takes or gives reference at the right end."""
        start = self.start - shift
        window = Window(site.left.contig, start, start + self.length)
        return [Pair(Haplotype(window, None), grown_right(site.left, start, self.length))]


def one_window(name: str, scorer: Scorer, middle: int, region: tuple[int, int]) -> OneWindow:
    """Give the placement that has a base where centred windows have their allele.

    Args:
        name: Of the model.
        scorer: Its scorer.
        middle: 0-based base.
        region: 0-based half-open; all of it must lie in the window, whatever the shift.

    Raises:
        OptionError: If the model places its windows in another way, or the region does not fit.
    """
    centred = getattr(scorer, "placement", None)
    if type(centred) is not Centred:
        raise OptionError(f"--one-window: the windows of {name} do not lie centred on alleles. Leave it out.")
    start = middle - centred.index
    first, last = start - min(centred.shifts), start + centred.length - max(centred.shifts)
    if region[0] < first or region[1] > last:
        raise OptionError(
            f"--one-window: {region[1] - region[0]:,} positions do not fit into the window of {name}, which holds "
            f"{max(0, last - first):,} around the middle. Give fewer, or leave it out."
        )
    given = {field.name: getattr(centred, field.name) for field in fields(centred)}
    return OneWindow(**(given | {"indel_mode": "anchor"}), start=start)
