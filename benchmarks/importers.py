"""How fast ``airlam import`` reads each layout, beside a plain copy and the format's own reader, and its peak memory.

    python -P benchmarks/importers.py [--mb 1200] [--cases numpy llm4cp ...] [--folder FOLDER] [--out FILE]

Writes a file of random CSI of each layout, then, each in a process of its own: copies it, reads all of it with the
format's own reader (NumPy, h5py, SciPy), and imports it. MB/s are of the file's bytes; start-up does not count. The
file has just been written, so all three read it from the page cache; the copy and the store are synced. The readers
need memory for the whole file. Peak memory is the resident set, pages of mapped files included.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

UNITS = {"slot_s": 1e-3, "carrier_hz": 3e9, "subcarrier_spacing_hz": 30e3}
LINK = (16, 48, 32)  # slots, subcarriers, antennas
PAIR = np.dtype([("real", "<f8"), ("imag", "<f8")])


def noise(shape: tuple[int, ...], dtype: type = np.complex128) -> np.ndarray:
    """Random CSI of 12 significant bits: as compressible as CSI that was kept in single precision."""
    size = int(np.prod(shape))
    base = np.random.default_rng(0).normal(size=(min(size, 2**20), 2)).astype(np.float16).astype(np.float64)
    return np.resize(base.view(np.complex128)[:, 0], shape).astype(dtype)


def npy(folder: Path, values: int) -> Path:
    links = values // int(np.prod(LINK))
    array = np.lib.format.open_memmap(folder / "x.npy", "w+", np.complex128, (links, *LINK[:2], 1, LINK[2]))
    for start in range(0, links, 50):
        array[start : start + 50] = noise((*array[start : start + 50].shape,))
    return folder / "x.npy"


def npz(folder: Path, values: int, save: Callable = np.savez) -> Path:
    save(folder / "x.npz", csi=noise((values // int(np.prod(LINK)), *LINK[:2], 1, LINK[2])))
    return folder / "x.npz"


def npz_compressed(folder: Path, values: int) -> Path:
    return npz(folder, values, np.savez_compressed)


def v73(path: Path, name: str, shape: tuple[int, ...], **storage: object) -> Path:
    """A variable of this shape in MATLAB's order of axes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        data = file.create_dataset(name, shape[::-1], PAIR, **storage)
        part = np.empty(shape[-2::-1], PAIR)
        part["real"], part["imag"] = noise(part.shape).real, noise(part.shape).imag
        for index in range(shape[-1]):
            data[index] = part
    return path


def llm4cp(folder: Path, values: int) -> Path:
    speeds = values // (10 * 20 * 48 * 32)
    v73(folder / "H_U_pre_train.mat", "H_U_pre_train", (speeds, 10, 4, 48, 4, 4, 2))
    return v73(folder / "H_U_his_train.mat", "H_U_his_train", (speeds, 10, 16, 48, 4, 4, 2))


def wifo(folder: Path, values: int, **storage: object) -> Path:
    return v73(folder / "X_test.mat", "X_val", (values // int(np.prod(LINK)), *LINK), **storage)


def wifo_compressed(folder: Path, values: int) -> Path:
    links = values // int(np.prod(LINK))
    chunks = (1, 8, LINK[0], min(links, 512))  # about 1 MB; how MATLAB cuts chunks is not documented
    return wifo(folder, values, chunks=chunks, compression="gzip", compression_opts=3)


def wifo_v5(folder: Path, values: int) -> Path:
    from scipy.io import savemat

    values = min(values, 490 * 10**6 // 16)
    savemat(folder / "X_test.mat", {"X_val": noise((values // int(np.prod(LINK)), *LINK))})
    return folder / "X_test.mat"


def matlab_5g(folder: Path, values: int) -> Path:
    return v73(folder / "x.mat", "hest", (48, 14, 1, 32, values // (48 * 14 * 32)))


def sionna_cfr(folder: Path, values: int) -> Path:
    shape = (2 * values // int(np.prod(LINK)), 1, 1, 1, LINK[2], *LINK[:2])
    with h5py.File(folder / "x.h5", "w") as file:
        data = file.create_dataset("h", shape, np.complex64)
        for start in range(0, shape[0], 50):
            data[start : start + 50] = noise(data[start : start + 50].shape, np.complex64)
    return folder / "x.h5"


def sionna_cir(folder: Path, values: int) -> Path:
    paths, slots = 24, LINK[0]
    batch = 2 * values // (LINK[2] * paths * slots)
    with h5py.File(folder / "x.h5", "w") as file:
        data = file.create_dataset("a", (batch, 1, 1, 1, LINK[2], paths, slots), np.complex64)
        for start in range(0, batch, 200):
            data[start : start + 200] = noise(data[start : start + 200].shape, np.complex64)
        file["tau"] = np.random.default_rng(0).uniform(0, 1e-6, (batch, 1, 1, paths)).astype(np.float32)
    return folder / "x.h5"


def deepmimo(folder: Path, values: int) -> Path:
    return v73(folder / "x.mat", "channel", (values // (32 * 512), 1, 32, 512))


def quadriga(folder: Path, values: int) -> Path:
    from scipy.io import savemat

    paths, slots = 20, LINK[0]
    links = 2 * values // (LINK[2] * paths * slots)
    coeff, delay = noise((1, LINK[2], paths, slots), np.complex64), np.full((paths, slots), 1e-7, np.float32)
    names = {}
    for n in range(1, links + 1):
        names |= {f"channel_{n:05}_Coeffs": coeff, f"channel_{n:05}_Delays": delay}
    savemat(folder / "x.mat", names)
    return folder / "x.mat"


def wimae(folder: Path, values: int) -> Path:
    h = noise((2 * values // int(np.prod(LINK)), 1, 1, LINK[2], *LINK[:2]), np.complex64)
    np.savez(folder / "x.npz", h=h, shape=np.array(h.shape))
    return folder / "x.npz"


def scenario(folder: Path, values: int) -> Path:
    """A folder of DeepMIMO: small files, of which much more CSI is computed."""
    users, paths, out = values // 4000, 25, folder / "city"
    out.mkdir()
    rng = np.random.default_rng(0)
    for field in ("power", "phase", "delay", "aoa_az", "aoa_el", "aod_az", "aod_el", "inter"):
        scale = 1e-7 if field == "delay" else 30
        values_ = np.round(rng.random((users, paths)) * scale, 9 if field == "delay" else 2).astype(np.float32)
        np.savez_compressed(out / f"{field}_t000_tx000_r001.npz", **{field: values_})
    np.savez_compressed(out / "rx_pos_t000_tx000_r001.npz", rx_pos=rng.random((users, 3)).astype(np.float32))
    np.savez_compressed(out / "tx_pos_t000_tx000_r001.npz", tx_pos=np.zeros((1, 3), np.float32))
    sets = {f"txrx_set_{n}": {"id": n, "is_tx": n == 0, "is_rx": n == 1, "num_points": 1} for n in range(2)}
    about = {"txrx_sets": sets, "rt_params": {"frequency": 3e9}, "scene": {"num_scenes": 1}}
    (out / "params.json").write_text(json.dumps(about))
    return out


# name: (writer, layout, options)
CASES: dict[str, tuple[Callable[[Path, int], Path], str, dict]] = {
    "numpy .npy": (npy, "numpy", {}),
    "numpy .npz": (npz, "numpy", {}),
    "numpy .npz compressed": (npz_compressed, "numpy", {}),
    "llm4cp v7.3": (llm4cp, "llm4cp", {}),
    "wifo v7.3": (wifo, "wifo", {}),
    "wifo v7.3 compressed": (wifo_compressed, "wifo", {}),
    "wifo v5": (wifo_v5, "wifo", {}),
    "matlab-5g v7.3": (matlab_5g, "matlab-5g", {}),
    "sionna h, .h5": (sionna_cfr, "sionna", {}),
    "sionna a, tau, .h5": (sionna_cir, "sionna", {"subcarriers": 48}),
    "deepmimo channel, v7.3": (deepmimo, "deepmimo", {}),
    "deepmimo folder": (scenario, "deepmimo", {"subcarriers": 48}),
    "quadriga v5": (quadriga, "quadriga", {"subcarriers": 48}),
    "wimae .npz": (wimae, "wimae", {}),
}


def files_of(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.iterdir())
    return sorted(file for file in path.parent.iterdir() if file.suffix == path.suffix)


def own_reader(path: Path) -> None:
    """All arrays, one after the other, as NumPy, h5py and SciPy give them."""
    for file in files_of(path):
        if h5py.is_hdf5(file):
            with h5py.File(file, "r") as opened:
                for name in opened:
                    opened[name][()]
        elif file.suffix == ".mat":
            from scipy.io import loadmat

            loadmat(file)
        elif file.suffix == ".npz":
            with np.load(file) as opened:
                for name in opened.files:
                    opened[name]
        elif file.suffix == ".npy":
            np.load(file)


def copy(path: Path, out: Path) -> None:
    with out.open("wb") as target:
        for file in files_of(path):
            with file.open("rb") as source:
                shutil.copyfileobj(source, target, 2**20)
        target.flush()
        os.fsync(target.fileno())


def one(work: str, path: Path, layout: str, options: dict) -> dict[str, float]:
    """One work in this process: seconds and peak memory."""
    from airlam.data.importers.sets import Description, import_set

    units = dict(UNITS, port_shape=(1, 8, 4)) if path.is_dir() else UNITS
    description = Description(**({} if layout == "llm4cp" else units))
    import scipy.io  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:  # whatever is loaded at the first import
        np.save(Path(folder) / "x.npy", noise((4, 2, 2, 1, 2)))
        import_set(Path(folder) / "x.npy", Path(folder) / "x.h5", description=Description(**UNITS))
    before = peak_mb()
    out = path.parent / "out"
    start = time.perf_counter()
    if work == "copy":
        copy(path, out)
    elif work == "reader":
        own_reader(path)
    else:
        import_set(path, out, layout=layout, description=description, options=options)
    seconds = time.perf_counter() - start
    out.unlink(missing_ok=True)
    return {"seconds": seconds, "peak_mb": peak_mb(), "before_mb": before}


def peak_mb() -> float:
    """Of this process's resident set (getrusage would give its parent's, where that was larger)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=float, default=1200, help="of the largest file of each case")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--folder", type=Path, help="for the files (default: the system's)")
    parser.add_argument("--out", type=Path, default=Path("runs/importers.json"))
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        work, path, layout, options = chosen.one
        print(json.dumps(one(work, Path(path), layout, json.loads(options))))
        return
    print(f"{'case':24} {'MB':>6} {'copy':>6} {'reader':>7} {'import':>7}  MB/s  {'import/copy':>12} "
          f"{'time/reader':>12} {'peak MB':>8}")  # fmt: skip
    rows = []
    for name in chosen.cases:
        writer, layout, options = CASES[name]
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            path = writer(Path(folder), int(chosen.mb * 1e6) // 16)
            size = sum(file.stat().st_size for file in files_of(path)) / 1e6
            os.sync()
            done = {}
            for work in ("copy", "reader", "import"):
                command = [sys.executable, "-P", __file__, "--one", work, str(path), layout, json.dumps(options)]
                done[work] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rate = {work: size / result["seconds"] for work, result in done.items()}
        slower = done["import"]["seconds"] / done["reader"]["seconds"]
        rows.append({"case": name, "mb": size, "mb_per_s": rate, "runs": done})
        speeds = f"{rate['copy']:6.0f} {rate['reader']:7.0f} {rate['import']:7.0f}"
        share, peak = rate["import"] / rate["copy"], done["import"]["peak_mb"]
        print(f"{name:24} {size:6.0f} {speeds}        {share:12.2f} {slower:12.2f} {peak:8.0f}", flush=True)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"written to {chosen.out}")


if __name__ == "__main__":
    main()
