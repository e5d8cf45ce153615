"""Record what Sei's own code answers to random weights, and what Selene makes of alleles.

    python tests/parity/record_sei.py SEI SELENE

SEI is github.com/FunctionLab/sei-framework at 1e16bff, SELENE github.com/FunctionLab/selene at 9f8c441, built in place
(`python setup.py build_ext --inplace`). Wanted beside torch: scipy, pandas, h5py, and what Selene imports.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from drawing import drawn
from numpy.typing import NDArray

SEED = 31
N_TRACKS = 24
LENGTH = 4096
N_CLUSTERS = 61
DATA = Path(__file__).parent / "data" / "sei.json"

Array = NDArray[Any]


def upstream_shapes(n_tracks: int) -> dict[str, tuple[int, ...]]:
    """Give the keys and shapes of the published file, for some number of outputs."""
    kernels = {
        "lconv1.0": (480, 4, 9), "lconv1.1": (480, 480, 9), "conv1.0": (480, 480, 9), "conv1.2": (480, 480, 9),
        "lconv2.2": (640, 480, 9), "lconv2.3": (640, 640, 9), "conv2.1": (640, 640, 9), "conv2.3": (640, 640, 9),
        "lconv3.2": (960, 640, 9), "lconv3.3": (960, 960, 9), "conv3.1": (960, 960, 9), "conv3.3": (960, 960, 9),
        **{f"dconv{number}.1": (960, 960, 5) for number in range(1, 6)},
        "classifier.0": (n_tracks, 15360), "classifier.2": (n_tracks, n_tracks),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in kernels.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    return shapes


def weights() -> dict[str, Array]:
    """Draw weights whose outputs lie within a few units of 0, so that probabilities differ."""
    values = drawn(upstream_shapes(N_TRACKS), SEED, gain=1.0)
    values["classifier.2.weight"] *= np.float32(0.02)
    return values


def windows() -> list[str]:
    """Give two windows: random bases with N and lower case, and runs of one base with bases of other frequencies."""
    generator = np.random.RandomState(SEED + 1)
    mixed = "".join(generator.choice(list("ACGT"), LENGTH))
    mixed = mixed[:700] + "N" * 90 + mixed[790:2000] + mixed[2000:2400].lower() + mixed[2400:4090] + "nnnNNN"
    rich = "".join(generator.choice(list("ACGT"), 1200, p=[0.1, 0.4, 0.4, 0.1]))
    poor = "".join(generator.choice(list("ACGT"), LENGTH - 2700, p=[0.4, 0.1, 0.1, 0.4]))
    return [mixed, "A" * 1500 + rich + poor]


def contig() -> str:
    """Give a contig of 12,000 bases with a repeat and lower case in the middle; every window lies inside."""
    generator = np.random.RandomState(SEED + 2)
    bases = "".join(generator.choice(list("ACGT"), 12_000))
    return bases[:6000] + "CA" * 12 + bases[6024:6500].lower() + bases[6500:]


def records() -> list[tuple[int, str, str]]:
    """Give POS, REF and ALT of normalised records: SNVs first, then indels, then other alleles."""
    bases = contig().upper()
    other = str.maketrans("ACGT", "CATG")
    found = [(pos, bases[pos - 1], bases[pos - 1].translate(other)) for pos in (5000, 6100)]
    for pos, n_inserted in ((5200, 1), (5301, 7), (5700, 301)):
        found.append((pos, bases[pos - 1], bases[pos - 1] + bases[pos - 1].translate(other) * n_inserted))
    for near, n_deleted in ((5400, 1), (5500, 2), (5601, 21), (7000, 300)):
        pos = next(pos for pos in range(near, near + 50) if bases[pos - 1] != bases[pos - 1 + n_deleted])
        found.append((pos, bases[pos - 1 : pos + n_deleted], bases[pos - 1]))
    found += [(6000, bases[5999] + "CA", bases[5999]), (6000, bases[5999], bases[5999] + "CACA")]
    for pos, n in ((5800, 2), (5901, 5)):
        found.append((pos, bases[pos - 1 : pos - 1 + n], bases[pos - 1 : pos - 1 + n].translate(other)))
    first, last = bases[7999].translate(other), bases[8003].translate(other)
    found.append((8000, bases[7999:8004], first + last))
    first, last = bases[8099].translate(other), bases[8100].translate(other)
    found.append((8100, bases[8099:8101], first + "GG" + last))
    assert all(ref[-1] != alt[-1] for _, ref, alt in found), "the records are not normalised"
    return found


SCORED = (0, 1, 2, 6)
"""Which of the records are also run through the network: two SNVs, an insertion, a deletion."""


def projection() -> tuple[Array, Array]:
    """Give projection vectors, (61, n_tracks), and the indices of histone marks."""
    generator = np.random.RandomState(SEED + 3)
    return generator.normal(0, 1, (N_CLUSTERS, N_TRACKS)), np.array([2, 3, 5, 8, 13, 21])


def profiles() -> tuple[Array, Array]:
    """Give random probabilities of five reference and alternate windows, (5, n_tracks) each."""
    generator = np.random.RandomState(SEED + 4)
    ref = generator.uniform(0, 1, (5, N_TRACKS))
    return ref, np.clip(ref + generator.normal(0, 0.05, ref.shape), 0.001, 0.999)


def main() -> None:
    """Run the authors' code and write the fixture."""
    sei, selene = (Path(argument).resolve() for argument in sys.argv[1:3])
    sys.path[:0] = [str(sei), str(selene)]
    import torch

    torch.set_num_threads(1)
    found = {
        "about": {
            "upstream": "github.com/FunctionLab/sei-framework at 1e16bff9b1618af7065a23f82c4a3bb82aaeb689, "
            "github.com/FunctionLab/selene at 9f8c441198e8125e60a8f2ab70cee0a14a05d674",
            "torch": torch.__version__,
            "command": "python tests/parity/record_sei.py SEI SELENE",
        },
        "network": _network(),
        "classes": _classes(*profiles()),
    }
    with tempfile.TemporaryDirectory() as name:
        found["selene"], found["scores"] = _alleles(Path(name))
    DATA.write_text(json.dumps(found, indent=0) + "\n")


def _model() -> Any:
    import torch
    from model.sei import Sei

    network = Sei(LENGTH, N_TRACKS)
    found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert found == upstream_shapes(N_TRACKS)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights().items()})
    return network.eval()


def _network() -> dict[str, Any]:
    import torch
    from model.sei import spline_factory
    from selene_sdk.sequences import Genome
    from selene_sdk.utils import NonStrandSpecific

    network = _model()
    inputs = torch.from_numpy(np.stack([Genome.sequence_to_encoding(letters) for letters in windows()])).transpose(1, 2)
    found = {}
    with torch.no_grad():
        for name, x, model in (("float32", inputs, network), ("float64", inputs.double(), network.double())):
            # Upstream makes its basis in float32 at the first batch, and could not multiply float64 by it.
            model.spline_tr[1]._spline_tr = spline_factory(256, 16).to(x.dtype)
            model.to(x.dtype)
            found[f"{name}_mean"] = NonStrandSpecific(model)(x).tolist()
            both = torch.cat([x, x.flip(1, 2)])
            found[f"{name}_logits"] = _logits(model, both).tolist()
    return found


def _in_double(model: Any) -> Any:
    """Let Selene, which gives float32, run a network in float64: a base among 4,096 changes little."""
    import torch
    from model.sei import spline_factory

    class InDouble(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model.double()
            model.model.spline_tr[1]._spline_tr = spline_factory(256, 16).double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.model(x.double())
            return found

    return InDouble().eval()


def _logits(model: Any, x: Any) -> Any:
    kept: list[Any] = []
    handle = model.classifier[2].register_forward_hook(lambda module, inputs, output: kept.append(output.clone()))
    model(x)
    handle.remove()
    return kept[0]


def _classes(ref: Array, alt: Array) -> dict[str, Any]:
    from utils import sc_hnorm_varianteffect, sc_projection

    vectors, histones = projection()
    scores = sc_hnorm_varianteffect(ref, alt, vectors, histones)
    raw = [sc_projection(ref, vectors).tolist(), sc_projection(alt, vectors).tolist()]
    return {"class": scores.tolist(), "raw": raw, "max_abs": np.abs(scores).max(axis=1).tolist()}


def _alleles(folder: Path) -> tuple[list[dict[str, str]], dict[str, Any]]:
    from selene_sdk.predict import model_predict
    from selene_sdk.utils import NonStrandSpecific

    (folder / "c.fa").write_text(f">c\n{contig()}\n")
    read: list[tuple[str, str]] = []
    predict = model_predict._handle_ref_alt_predictions

    def note(model: Any, refs: Sequence[Array], alts: Sequence[Array], *rest: Any, **options: Any) -> None:
        read.extend((_letters(ref), _letters(alt)) for ref, alt in zip(refs, alts, strict=True))

    model_predict._handle_ref_alt_predictions = note
    _run_selene(folder, NonStrandSpecific(_model()), records())
    model_predict._handle_ref_alt_predictions = predict
    _run_selene(folder, _in_double(NonStrandSpecific(_model())), [records()[index] for index in SCORED])
    ref, alt = (_table(folder / f"out.{allele}_predictions.h5") for allele in ("ref", "alt"))
    sequences = [{"ref": _digest(ref), "alt": _digest(alt), "middle": alt[2028:2068]} for ref, alt in read]
    return sequences, {"ref": ref.tolist(), "alt": alt.tolist(), **_classes(ref, alt)}


def _run_selene(folder: Path, model: Any, chosen: Sequence[tuple[int, str, str]]) -> None:
    import torch
    from selene_sdk.predict import AnalyzeSequences
    from selene_sdk.sequences import Genome

    lines = [f"c\t{pos}\t.\t{ref}\t{alt}\n" for pos, ref, alt in chosen]
    (folder / "out.vcf").write_text("#CHROM\tPOS\tID\tREF\tALT\n" + "".join(lines))
    torch.save({f"module.{name}": value for name, value in model.state_dict().items()}, folder / "sei.pth")
    names = [str(number) for number in range(N_TRACKS)]
    analysis = AnalyzeSequences(
        model, str(folder / "sei.pth"), LENGTH, names, batch_size=4, reference_sequence=Genome(str(folder / "c.fa"))
    )
    analysis.variant_effect_prediction(str(folder / "out.vcf"), ["predictions"], str(folder), "hdf5")


def _letters(encoding: Array) -> str:
    return "".join("ACGT"[index] for index in encoding.argmax(1))


def _digest(letters: str) -> str:
    return hashlib.sha256(letters.encode()).hexdigest()[:32]


def _table(path: Path) -> Array:
    import h5py

    with h5py.File(path) as file:
        values = np.asarray(file["data"], np.float64)
    assert values.shape == (len(SCORED), N_TRACKS)
    return values


if __name__ == "__main__":
    main()
