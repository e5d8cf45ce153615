"""Record what DeepSEA's published code answers to random weights, and what its package makes of a few SNVs.

    PYTHONPATH=.:tests python tests/parity/record_deepsea.py KIPOI PACKAGE

KIPOI is github.com/kipoi/models at 06bfe84, whose DeepSEA/model_architecture.py is the authors' Torch7 network in
PyTorch. PACKAGE is the authors' package, of which github.com/henneberger/DeepSEA at 3466289 is a copy: its scripts run
one after the other as in rundeepsea.py, but for 0_coor2fasta.R, which only cuts the sequences and writes their headers.
The Python scripts are moved from Python 2 to 3; 2_DeepSEA.lua runs unchanged, on a network of the authors' layers that
torch.save wrote. Wanted: torch, h5py, pandas, biopython, joblib and statsmodels, and luajit with torch7 814ea4a and nn
8726825 on LUA_PATH and LUA_CPATH.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import deepsea_cases as cases
import h5py
import joblib
import numpy as np
import pandas
import statsmodels
import torch
from deepsea_cases import DEEPSEA as CASE
from numpy.typing import NDArray
from statsmodels.distributions.empirical_distribution import StepFunction
from writers import write_torch7

Array = NDArray[Any]
DATA = Path(__file__).parent / "data" / "deepsea.npz"
N_SEQUENCES = 8

SAVE_LUA = """
require 'torch'
require 'nn'
local w = torch.load(arg[1])
local function filled(module, key)
  module.weight:copy(w[key .. '.weight']:viewAs(module.weight))
  module.bias:copy(w[key .. '.bias'])
  return module
end
local net, n_in = nn.Sequential(), 4
for number, key in ipairs({'0', '4', '8'}) do
  local n_out = w[key .. '.bias']:size(1)
  net:add(filled(nn.SpatialConvolutionMM(n_in, n_out, 1, 8, 1, 1, 0), key)):add(nn.Threshold(0, 1e-6))
  if number < 3 then net:add(nn.SpatialMaxPooling(1, 4, 1, 4)) end
  net:add(nn.Dropout(number < 3 and 0.2 or 0.5))
  n_in = n_out
end
local hidden, answers = w['12.1.weight'], w['14.1.weight']
net:add(nn.Reshape(hidden:size(2))):add(filled(nn.Linear(hidden:size(2), hidden:size(1)), '12.1'))
net:add(nn.Threshold(0, 1e-6)):add(filled(nn.Linear(answers:size(2), answers:size(1)), '14.1')):add(nn.Sigmoid())
torch.save(arg[2], net:float())
"""

HDF5_LUA = """
hdf5 = {}
local function python(...)
  local words = {}
  for _, word in ipairs({...}) do words[#words + 1] = "'" .. word .. "'" end
  local pipe = io.popen(table.concat(words, ' '))
  local answer = pipe:read('*a')
  pipe:close()
  return answer
end
local File = {}
File.__index = File
function File:read(name)
  local raw = self.path .. '.raw'
  local answer = python(os.getenv('PYTHON'), '-c', 'import h5py, sys; d = h5py.File(sys.argv[1])[sys.argv[2]][()];'
    .. ' d.astype(float).tofile(sys.argv[3]); print(*d.shape)', self.path, name, raw)
  local sizes = {}
  for n in answer:gmatch('%d+') do sizes[#sizes + 1] = tonumber(n) end
  local tensor = torch.DoubleTensor(torch.LongStorage(sizes))
  torch.DiskFile(raw, 'r'):binary():readDouble(tensor:storage())
  return {all = function() return tensor end}
end
function File:write(name, tensor)
  local file = torch.DiskFile(self.path .. '.raw', 'w'):binary()
  file:writeDouble(tensor:contiguous():storage())
  file:close()
  python(os.getenv('PYTHON'), '-c', 'import h5py, numpy, sys; h5py.File(sys.argv[1], "w")[sys.argv[2]] = '
    .. 'numpy.fromfile(sys.argv[1] + ".raw").reshape(-1, int(sys.argv[3]))', self.path, name, tensor:size(2))
end
function File:close() end
function hdf5.open(path) return setmetatable({path = path}, File) end
return hdf5
"""
"""In place of torch-hdf5, which wants HDF5 1.8."""


def network_code(kipoi: Path) -> ModuleType:
    """Import the module of the Kipoi repository."""
    spec = importlib.util.spec_from_file_location("architecture", kipoi / "DeepSEA" / "model_architecture.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def filled(model: torch.nn.Module, prefix: str, weights: Mapping[str, Array]) -> torch.nn.Module:
    """Give a Kipoi model these weights."""
    model.load_state_dict({prefix + key: torch.from_numpy(value) for key, value in weights.items()}, strict=True)
    return model.eval().requires_grad_(False)


def encoded(sequences: list[str]) -> torch.Tensor:
    """Give A, C, G, T channels, (n, 4, 1, length), zeros for all else; each strand by itself."""
    rows = [[[float(base == letter) for base in text.upper()] for letter in "ACGT"] for text in sequences]
    return torch.tensor(rows)[:, :, None]


def record_network(code: ModuleType) -> dict[str, Array]:
    """Run the network on both strands: the answers before the sigmoid, small and full; Kipoi's strand means."""
    found: dict[str, Array] = {}
    texts = cases.sequences(CASE.length)
    small = cases.embedded(CASE, cases.weights(CASE, CASE.small))
    full = cases.weights(CASE, CASE.full)
    few = [texts[row] for row in cases.SHOWN_ROWS]
    for name, weights, used, tracks in (
        ("small", small, texts, cases.chosen(CASE.small.n_tracks, CASE.full.n_tracks)),
        ("full", full, few, cases.shown_tracks(CASE)),
    ):
        batch = encoded([*used, *cases.turned(used)])
        model = filled(code.get_model(load_weights=False), "1.", weights)
        assert isinstance(model, torch.nn.Sequential) and isinstance(model[1], torch.nn.Sequential)
        logits = torch.nn.Sequential(model[0], model[1][:-1])
        found[f"{name}_float32"] = logits(batch).numpy()[:, tracks]
        found[f"{name}_float64"] = logits.double()(batch.double()).numpy()[:, tracks]
        both = filled(code.get_seqpred_model(load_weights=False), "2.", weights)
        found[f"{name}_means"] = both(batch[: len(used)]).numpy()[:, tracks]
    return found


def moved_to_python3(source: str) -> str:
    """Change what Python 3 and NumPy 2 read differently."""
    source = re.sub(r'^(\s*)print (".*")$', r"\1print(\2)", source, flags=re.MULTILINE)
    source = re.sub(r"(\.shape\[0\]|inputwindow)/2", r"\1//2", source)
    return source.replace("np.string_", "np.str_").replace("dtype=np.str)", "dtype=str, delimiter='\\t')")


def prepare(folder: Path, package: Path) -> None:
    """Lay out a working folder as the authors' package has it, with our network, background and sequences."""
    for script in ("1_fasta2input.py", "3_h5ToOutput.py"):
        (folder / script).write_text(moved_to_python3((package / script).read_text()))
    (folder / "2_DeepSEA.lua").write_text((package / "2_DeepSEA.lua").read_text())
    (folder / "hdf5.lua").write_text(HDF5_LUA)
    (folder / "resources" / "ecdfs").mkdir(parents=True)
    (folder / "resources" / "predictor.names").write_text((package / "resources" / "predictor.names").read_text())
    functions = [StepFunction(np.array([1.0]), np.array([1.0]), side="right")] * CASE.full.n_tracks
    tracks = cases.chosen(CASE.small.n_tracks, CASE.full.n_tracks)
    for track, (sizes, levels) in zip(tracks, cases.backgrounds(len(tracks)), strict=True):
        functions[track] = StepFunction(sizes, levels, side="right")
    joblib.dump(functions, folder / "resources" / "ecdfs" / "ecdf_difflogdiff.rescaled.pkl")
    weights = cases.weights(CASE, CASE.small)
    for kind in ("weight", "bias"):
        wide = np.zeros((CASE.full.n_tracks, *weights[f"14.1.{kind}"].shape[1:]), np.float32)
        wide[tracks] = weights[f"14.1.{kind}"]
        weights[f"14.1.{kind}"] = wide
    write_torch7(folder / "weights.t7", weights)
    (folder / "save.lua").write_text(SAVE_LUA)
    records = []
    for pos, ref, alt in cases.snvs():
        start, end = pos - 549, pos + 550
        records.append(f">{ref}_{alt}_{cases.CONTIG}_{start}_{end}_snv\n{cases.genome()[start - 1 : end]}\n")
    (folder / "in.vcf.wt1100.fasta").write_text("".join(records))


def record_snvs(package: Path) -> dict[str, Array]:
    """Run the package: difference, log fold change and e-value of each SNV, (SNVs, tracks)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, package)
        vcf = str(folder / "in.vcf")
        environment = os.environ | {
            "PYTHON": sys.executable,
            "LUA_PATH": f"{folder}/?.lua;{os.environ['LUA_PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        for command in (
            ["luajit", "save.lua", "weights.t7", "deepsea.cpu"],
            [sys.executable, "1_fasta2input.py", f"{vcf}.wt1100.fasta", "1100"],
            ["luajit", "2_DeepSEA.lua", "-threads", "1", "-test_file_h5", f"{vcf}.wt1100.fasta.ref.h5"],
            ["luajit", "2_DeepSEA.lua", "-threads", "1", "-test_file_h5", f"{vcf}.mut1100.fasta.ref.h5"],
            [sys.executable, "3_h5ToOutput.py", vcf]
            + [f"{vcf}.{kind}1100.fasta.ref.h5.pred.h5" for kind in ("wt", "mut")],
        ):
            subprocess.run(command, cwd=folder, env=environment, check=True)
        return {f"snv_{score}": table(folder, score) for score in ("diff", "logfoldchange", "evalue", "ref", "alt")}


def table(folder: Path, score: str) -> Array:
    """Read a table of the package's, the tracks with weights."""
    frame = pandas.read_csv(folder / f"in.vcf.out.{score}", index_col=0)
    assert frame["pos"].tolist() == [pos for pos, _, _ in cases.snvs()]
    tracks = cases.chosen(CASE.small.n_tracks, CASE.full.n_tracks)
    return frame.iloc[:, 5:].to_numpy(np.float64)[:, tracks]


def main() -> None:
    """Record everything."""
    kipoi, package = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    versions = {module.__name__: str(module.__version__) for module in (torch, np, pandas, h5py, joblib, statsmodels)}
    about = {
        "network": "github.com/kipoi/models 06bfe84758b996d06f7f604b29e5b0342a700551, DeepSEA/model_architecture.py",
        "package": "DeepSEA v0.94 as of github.com/henneberger/DeepSEA 3466289bb3a37ebc7ff56f1dcbe684429102283d",
        "torch7": "torch7 814ea4a, nn 8726825",
        "command": "PYTHONPATH=.:tests python tests/parity/record_deepsea.py KIPOI PACKAGE",
        "versions": versions,
    }
    found = record_network(network_code(kipoi)) | record_snvs(package)
    np.savez_compressed(DATA, about=np.array(json.dumps(about)), **found)


if __name__ == "__main__":
    main()
