"""Record what Basset's own code answers, run by Torch7, to random weights and to a few SNVs.

    PYTHONPATH=. python tests/parity/record_basset.py CHECKOUT

Also lets the authors' training script make a tiny network and save it, as a file that Torch7 itself wrote.

CHECKOUT is github.com/davek44/Basset at 692b8b2, the last commit before convolutions were padded; the published weights
are older. Wanted on LUA_PATH and LUA_CPATH: torch7 814ea4a, dpnn c0a8ca6, optim a5ceed7, and nn 8726825 with its two
batch norm modules of commit 8173b58 (September 2015), which keep inverse standard deviations as the published file.
Python wants varfm, h5py, pandas, matplotlib, seaborn and pysam; the last four for the authors' basset_sad.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from drawing import drawn
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parent.parent))
from basset_files import NORM_EPS, PUBLISHED, kipoi_shapes

SEED = 20
GAIN = 2.0
DATA = Path(__file__).parent / "data" / "basset.npz"
TRAINED = Path(__file__).parent.parent / "reader_data" / "basset_trained.th"

JOB = """{conv_filters = {300, 200, 200}, conv_filter_sizes = {19, 11, 7}, pool_width = {3, 4, 4},
  hidden_units = {1000, 1000}, hidden_dropouts = {0.3, 0.3}}"""

BUILD_LUA = f"""
require 'convnet'
local net = ConvNet:__init()
net:build({JOB}, 4, 600, 164)
local file = torch.DiskFile(arg[1], 'r'):binary()
for _, module in ipairs(net.model.modules) do
  for _, name in ipairs({{'weight', 'bias', 'running_mean', 'running_std'}}) do
    local field = module[name]
    if field then field:copy(torch.Tensor(file:readDouble(field:nElement()))) end
  end
end
torch.save(arg[2], net)
"""
"""Fills the authors' network with numbers that stand in its own order."""

LOGITS_LUA = """
require 'hdf5'
require 'convnet'
local net = ConvNet:__init()
net:load(torch.load(arg[1]))
net.model:evaluate()
net.model:forward(hdf5.open(arg[2]):read('test_in').tensor)
local file = torch.DiskFile(arg[3], 'w'):binary()
file:writeDouble(net.model.modules[#net.model.modules - 1].output:contiguous():storage())
file:close()
"""
"""What the authors' `predict` calls scores, without its rounding to float32."""

TRAIN_LUA = """
getmetatable('').__mod = string.format
arg = {'-job', 'job.txt', '-rand', '12', '-max_epochs', '1', '-save', 'trained', 'trained.h5'}
dofile(os.getenv('BASSETDIR') .. '/src/basset_train.lua')
"""
"""The script formats texts by the sign %, to which `th` with Penlight gives a meaning."""

TRAIN_JOB = (
    "conv_filters 2 conv_filters 3 conv_filter_sizes 4 conv_filter_sizes 2 pool_width 2 pool_width 2 "
    "hidden_units 3 hidden_units 2 hidden_dropouts 0.3 hidden_dropouts 0.3 batch_size 2"
)
TRAIN_LENGTH = 13

HDF5_LUA = """
require 'torch'
hdf5 = {}
local Data = {}
Data.__index = Data
function Data:dataspaceSize() return self.tensor:size():totable() end
function Data:partial(...) return self.tensor[{...}]:clone() end
local File = {}
File.__index = File
function File:read(name)
  local raw = self.path .. '.raw'
  local code = 'import h5py, sys; d = h5py.File(sys.argv[1])[sys.argv[2]][()].astype(float);'
    .. ' d.tofile(sys.argv[3]); print(*d.shape)'
  local pipe = io.popen(string.format('"%s" -c "%s" "%s" "%s" "%s"', os.getenv('PYTHON'), code, self.path, name, raw))
  local sizes = {}
  for n in pipe:read('*l'):gmatch('%d+') do sizes[#sizes + 1] = tonumber(n) end
  pipe:close()
  local tensor = torch.DoubleTensor(torch.LongStorage(sizes))
  torch.DiskFile(raw, 'r'):binary():readDouble(tensor:storage())
  return setmetatable({tensor = tensor}, Data)
end
function File:close() end
function hdf5.open(path) return setmetatable({path = path}, File) end
return hdf5
"""
"""In place of torch-hdf5, which wants HDF5 1.8."""


def sequences() -> list[str]:
    """Give the inputs: random bases, some in lower case, with N in between and at an end, and runs of one base."""
    generator = np.random.RandomState(SEED + 1)
    letters = ["".join(generator.choice(list("ACGT"), 600)) for _ in range(6)]
    letters.append("N" * 150 + letters[0][150:])
    letters.append(letters[1][:280] + "N" * 40 + letters[1][320:])
    letters.append(letters[2][:300].lower() + letters[2][300:])
    letters.append(letters[3][:250] + "a" * 100 + letters[3][350:])
    return [*letters, "A" * 600, "G" * 600, "CG" * 300]


def channels(letters: Sequence[str]) -> NDArray[np.float64]:
    """Give (n, 4, 1, length): A, C, G, T as the authors' encoder had them when the weights were made, N as 0."""
    codes = np.array([list(line.upper()) for line in letters])
    return np.stack([codes == base for base in "ACGT"], 1)[:, :, None].astype(np.float64)


def snvs(contig: str) -> list[tuple[int, str, str]]:
    """Give places from 1, and bases, of a contig of 2,000 bases; every window lies inside."""
    found = []
    for pos in (310, 700, 701, 950, 1000, 1203, 1690):
        ref = contig[pos - 1].upper()
        found.append((pos, ref, "ACGT"[("ACGT".index(ref) + 1 + pos % 3) % 4]))
    return found


def main() -> None:
    """Run the authors' code and write the fixtures."""
    checkout = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        _write_inputs(Path(name))
        recorded = _run(Path(name), checkout)
        TRAINED.write_bytes((Path(name) / "trained_check.th").read_bytes())
    np.savez_compressed(DATA, **recorded)


def _write_inputs(folder: Path) -> None:
    import h5py

    weights = drawn(kipoi_shapes(PUBLISHED), SEED, gain=GAIN)
    in_order = []
    for key in sorted(weights, key=_place):
        values = weights[key].astype(np.float64)
        in_order.append((values + NORM_EPS) ** -0.5 if key.endswith("running_var") else values)
    np.concatenate([values.ravel() for values in in_order]).tofile(folder / "weights.f8")
    with h5py.File(folder / "in.h5", "w") as file:
        file["test_in"] = channels(sequences())
    contig = "".join(np.random.RandomState(SEED + 2).choice(list("ACGTacgt"), 2000))
    (folder / "genome.fa").write_text(f">chr1\n{contig}\n")
    lines = [f"chr1\t{pos}\tsnv{pos}\t{ref}\t{alt}\t.\t.\t.\n" for pos, ref, alt in snvs(contig)]
    (folder / "snvs.vcf").write_text("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + "".join(lines))
    _write_training(folder)
    scripts = {"hdf5.lua": HDF5_LUA, "build.lua": BUILD_LUA, "logits.lua": LOGITS_LUA, "train.lua": TRAIN_LUA}
    scripts["th"] = '#!/bin/sh\nexec luajit -e "require \'torch\'" "$@"\n'
    scripts["basset_predict.lua"] = '#!/bin/sh\nexec th "$BASSETDIR/src/basset_predict.lua" "$@"\n'
    for script, text in scripts.items():
        (folder / script).write_text(text)
        (folder / script).chmod(0o755)


def _write_training(folder: Path) -> None:
    """Write four sequences with two targets to learn from, and the same four for validation and as inputs."""
    import h5py

    words = TRAIN_JOB.split()
    (folder / "job.txt").write_text("".join(f"{k}\t{v}\n" for k, v in zip(words[::2], words[1::2], strict=True)))
    with h5py.File(folder / "trained.h5", "w") as file:
        for part in ("train", "valid", "test"):
            file[f"{part}_in"] = channels(trained_sequences())
            file[f"{part}_out"] = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.int8)


def trained_sequences() -> list[str]:
    """Give the inputs of the tiny network."""
    generator = np.random.RandomState(SEED + 3)
    return ["".join(generator.choice(list("ACGT"), TRAIN_LENGTH)) for _ in range(4)]


def _place(key: str) -> tuple[int, int]:
    number, *_, name = key.split(".")
    return int(number), ("weight", "bias", "running_mean", "running_var").index(name)


def _run(folder: Path, checkout: Path) -> dict[str, Any]:
    environment = os.environ | {
        "BASSETDIR": str(checkout),
        "PATH": f"{folder}:{os.environ['PATH']}",
        "LUA_PATH": f"{folder}/?.lua;{checkout}/src/?.lua;{os.environ['LUA_PATH']}",
        "PYTHON": sys.executable,
        "MPLBACKEND": "agg",
    }

    def call(*command: str) -> None:
        subprocess.run(command, cwd=folder, env=environment, check=True)

    call("th", "train.lua")
    call("th", "logits.lua", "trained_check.th", "trained.h5", "trained.f8")
    call("th", "build.lua", "weights.f8", "model.th")
    call("th", "logits.lua", "model.th", "in.h5", "logits.f8")
    call("basset_predict.lua", "model.th", "in.h5", "forward.txt")
    call("basset_predict.lua", "-rc", "model.th", "in.h5", "both.txt")
    sad = str(checkout / "src" / "basset_sad.py")
    call(sys.executable, sad, "-l", "600", "-c", "-f", "genome.fa", "-o", "sad", "model.th", "snvs.vcf")
    table = [line.split(",") for line in (folder / "sad" / "sad_table.csv").read_text().splitlines()[1:]]
    about = {
        "upstream": "github.com/davek44/Basset at 692b8b269cf7f1bc395c9a498a28ace47eb23ee3",
        "torch": "torch7 814ea4a, nn 8726825 with batch norm of 8173b58, LuaJIT 2.1",
        "command": "PYTHONPATH=. python tests/parity/record_basset.py CHECKOUT",
    }
    return {
        "about": json.dumps(about),
        "sequences": np.array(sequences()),
        "logits": np.fromfile(folder / "logits.f8").reshape(-1, 164),
        "forward": np.loadtxt(folder / "forward.txt", np.float32),
        "both": np.loadtxt(folder / "both.txt", np.float32),
        "trained_sequences": np.array(trained_sequences()),
        "trained_logits": np.fromfile(folder / "trained.f8").reshape(-1, 2),
        "contig": (folder / "genome.fa").read_text().split()[1],
        "vcf": (folder / "snvs.vcf").read_text(),
        "sad_predictions": np.loadtxt(folder / "sad" / "model_out.txt", np.float32),
        "sad": np.array([float(line[-1]) for line in table]).reshape(-1, 164),
    }


if __name__ == "__main__":
    main()
