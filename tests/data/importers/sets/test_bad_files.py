"""What is refused, and how: one line with the value, the bound and what to do; and no store."""

from __future__ import annotations

import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from airlam.data import CSIStore
from airlam.data.importers.sets import (
    LAYOUTS,
    Contents,
    Description,
    Layout,
    LinkBlock,
    import_set,
    matlab,
    stored,
)
from airlam.errors import RecipeError, StoreError

UNITS = Description(1e-3, 3e9, 3e4)
CSI = np.random.default_rng(0).normal(size=(4, 5, 6, 1, 4, 2)).view(np.complex128)[..., 0]


def refused(folder, file, match, error=StoreError, description=UNITS, **arguments):
    with pytest.raises(error, match=match) as caught:
        import_set(folder / file, folder / "x.h5", description=description, **arguments)
    assert "\n" not in str(caught.value)
    assert not (folder / "x.h5").exists()


def compound(path, **variables) -> None:
    """A v7.3 file of complex variables in MATLAB's order of axes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in variables.items():
            pairs = np.empty(array.T.shape, [("real", "<f8"), ("imag", "<f8")])
            pairs["real"], pairs["imag"] = array.T.real, array.T.imag
            file[name] = pairs


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (np.nan, "link 2 has NaN or infinite"),
        (np.inf, "link 2 has NaN"),
        (1e300, "link 2 has NaN"),
        (0, "mean power 0"),
    ],
)
def test_values_that_are_no_csi(tmp_path, value, match):
    array = CSI.copy()
    array[2] = value
    np.save(tmp_path / "x.npy", array)
    refused(tmp_path, "x.npy", match)


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (CSI.real, "is float64, but CSI must be complex64"),
        (CSI[0], r"has 4 axes \[5, 6, 1, 4\], but --axes names 5"),
        (CSI[:0], "holds no value"),
    ],
)
def test_arrays_of_another_kind(tmp_path, array, match):
    np.save(tmp_path / "x.npy", array)
    refused(tmp_path, "x.npy", match)


def test_a_port_shape_that_does_not_fit(tmp_path):
    np.save(tmp_path / "x.npy", CSI)
    wrong = Description(1e-3, 3e9, 3e4, port_shape=(2, 1, 3))
    refused(tmp_path, "x.npy", "has 6 ports, the file has 4", RecipeError, wrong)


def test_pickled_objects_and_truncated_files_are_never_loaded(tmp_path):
    np.save(tmp_path / "x.npy", np.array([CSI, None], dtype=object), allow_pickle=True)
    refused(tmp_path, "x.npy", "never loaded")
    np.savez(tmp_path / "x.npz", csi=np.array([CSI, None], dtype=object), allow_pickle=True)
    refused(tmp_path, "x.npz", "never loaded", options={"variable": "csi"})
    np.save(tmp_path / "y.npy", CSI)
    (tmp_path / "y.npy").write_bytes((tmp_path / "y.npy").read_bytes()[:-100])
    refused(tmp_path, "y.npy", "truncated, damaged")
    (tmp_path / "z.npz").write_bytes(b"PK\x03\x04 no archive")
    refused(tmp_path, "z.npz", "cannot be read .*damaged")


def test_a_member_above_the_bound_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "WHOLE_BYTES", 1000)
    np.savez(tmp_path / "x.npz", csi=CSI)
    axes = {"axes": "slot,link,subcarrier,rx_ant,tx_ant"}
    refused(tmp_path, "x.npz", "save it with links first, or as .npy", options=axes)
    np.savez(tmp_path / "y.npz", csi=np.asfortranarray(CSI))
    refused(tmp_path, "y.npz", "in Fortran order.*ascontiguousarray")
    import_set(tmp_path / "x.npz", tmp_path / "y.h5", description=UNITS)  # a stream has no bound


def test_members_that_are_cut_or_longer_than_they_say(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", csi=CSI)
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        content = archive.read("csi.npy")
    for name, wrong in (("short", content[:-16]), ("long", content + bytes(10**7))):
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("csi.npy", wrong)
        refused(tmp_path, f"{name}.npz", "bytes, expected .*damaged")
    broken = bytearray((tmp_path / "x.npz").read_bytes())
    broken[len(broken) // 2] ^= 255
    (tmp_path / "broken.npz").write_bytes(broken)
    refused(tmp_path, "broken.npz", "cannot be read|NaN or infinite")
    assert not list(tmp_path.glob("*.h5"))


def test_several_members_and_unknown_ones(tmp_path):
    np.savez(tmp_path / "x.npz", a=CSI, b=CSI)
    refused(tmp_path, "x.npz", "holds a, b; say which")
    refused(tmp_path, "x.npz", "no member 'c'; it holds a, b", options={"variable": "c"})


@pytest.mark.parametrize(
    ("axes", "match"),
    [("link,slot,tone", "'tone'"), ("link,link", "twice"), ("link,tx_ant,row", "twice")],
)
def test_axes_that_mean_nothing(tmp_path, axes, match):
    np.save(tmp_path / "x.npy", CSI)
    refused(tmp_path, "x.npy", match, RecipeError, options={"axes": axes})


def test_what_a_file_does_not_tell_must_be_given(tmp_path):
    np.save(tmp_path / "x.npy", CSI)
    refused(tmp_path, "x.npy", "give --slot-s, --subcarrier-spacing-hz", RecipeError, Description(carrier_hz=1e9))


@pytest.mark.parametrize(
    ("field", "match"),
    [
        ({"slot_s": 0.0}, "--slot-s is 0.0"),
        ({"carrier_hz": float("nan")}, "--carrier-hz is nan"),
        ({"split": (0.5, 0.1, 0.1)}, "sum to 1"),
        ({"port_shape": (0, 1, 4)}, "--port-shape"),
        ({"seed": -1}, "seed"),
    ],
)
def test_descriptions_out_of_bounds(field, match):
    with pytest.raises(RecipeError, match=match):
        Description(**field)


def test_a_file_of_another_layout_is_told_apart(tmp_path):
    compound(tmp_path / "wifo.mat", X_val=CSI[..., 0, :])
    compound(tmp_path / "other.mat", H=CSI[..., 0, :])
    refused(tmp_path, "wifo.mat", "expects H_U_his, .* found X_val", layout="llm4cp")
    refused(tmp_path, "other.mat", "expects one variable X_val or .* found H$", layout="wifo")
    refused(tmp_path, "other.mat", "looks like none of numpy, llm4cp, wifo, .*; say which")
    refused(tmp_path, "wifo.mat", "expects a .npy or .npz file, found '.mat'", layout="numpy")
    refused(tmp_path, "wifo.mat", "did you mean 'wifo'", RecipeError, layout="wifi")
    refused(tmp_path, "wifo.mat", "wifo takes no --axes; it takes --variable", RecipeError, options={"axes": "link"})
    refused(tmp_path, "missing.mat", "no file")


@pytest.mark.parametrize("save", [compound, lambda path, **variables: savemat(path, variables)], ids=["v7.3", "v5"])
def test_matlab_variables_of_another_kind(tmp_path, save):
    save(tmp_path / "x.mat", X_val=CSI)
    refused(tmp_path, "x.mat", r"has 5 axes \[4, 5, 6, 1, 4\], expected 4: \[sample, slot")
    save(tmp_path / "y.mat", X_val=CSI[..., 0, :])
    content = (tmp_path / "y.mat").read_bytes()
    (tmp_path / "y.mat").write_bytes(content[: len(content) // 2])
    refused(tmp_path, "y.mat", "cannot be read as a MATLAB file|layout wifo expects", layout="wifo")


def test_matlab_variables_without_an_imaginary_part(tmp_path):
    savemat(tmp_path / "v5.mat", {"X_val": CSI[..., 0, :].real})
    refused(tmp_path, "v5.mat", "is float64, but must be complex")
    with h5py.File(tmp_path / "v73.mat", "w") as file:
        file["X_val"] = CSI[..., 0, :].real
    refused(tmp_path, "v73.mat", "is float64, but must be complex")
    (tmp_path / "text.mat").write_text("no MATLAB file at all")
    refused(tmp_path, "text.mat", "cannot be read as a MATLAB file", layout="wifo")


def test_a_large_v5_variable_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(matlab, "V5_BYTES", 1000)
    monkeypatch.setattr("scipy.io.loadmat", lambda *_, **__: pytest.fail("read"))
    savemat(tmp_path / "x.mat", {"X_val": CSI[..., 0, :]})
    refused(tmp_path, "x.mat", "save it in MATLAB with '-v7.3'")


def test_llm4cp_without_its_future_or_with_another(tmp_path):
    past = np.ones((2, 3, 16, 4, 2, 2, 2), complex)
    file = tmp_path / "H_U_his_train.mat"
    compound(file, H_U_his_train=past)
    refused(tmp_path, file.name, "expects H_U_pre_train, but there is no .*--future FILE", layout="llm4cp")
    compound(tmp_path / "H_U_pre_train.mat", H_U_pre_train=past[:, :2, :4])
    refused(tmp_path, file.name, "does not continue")
    options = {"future": str(tmp_path / "wrong.mat")}
    compound(tmp_path / "wrong.mat", H_U_pre_test=past)
    refused(tmp_path, file.name, "wrong.mat holds H_U_pre_test", options=options)
    for option, value in (("link", "both"), ("speed_kmh", "100,10"), ("speed_kmh", "fast")):
        refused(tmp_path, file.name, f"--{option.replace('_', '-')} is", RecipeError, options={option: value})


def test_a_link_that_is_too_large_and_a_layout_that_stops_early(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", CSI)
    monkeypatch.setattr("airlam.data.importers.sets.writing.LARGEST_LINK", 100)
    refused(tmp_path, "x.npy", "check the order of the axes")
    monkeypatch.undo()

    class Short(Layout):
        name = "short"

        def open(self, path):
            import contextlib

            h = CSI.astype(np.complex64)
            return contextlib.nullcontext(Contents(h.shape, lambda: iter([LinkBlock(h[:3])]), (path,)))

    monkeypatch.setitem(LAYOUTS._classes, "short", Short)
    refused(tmp_path, "x.npy", "gave 3 links of 4", layout="short")


def test_a_store_is_replaced_only_when_asked_and_a_foreign_file_never(tmp_path):
    np.save(tmp_path / "x.npy", CSI)
    target = import_and_return(tmp_path, CSI)
    before = target.read_bytes()
    with pytest.raises(StoreError, match="is there already; .*--overwrite"):
        import_and_return(tmp_path, CSI)
    assert target.read_bytes() == before
    import_and_return(tmp_path, CSI[:3], overwrite=True)
    assert len(CSIStore(target)) == 3
    with pytest.raises(StoreError, match="not an airlam store|not an HDF5"):
        import_set(tmp_path / "x.npy", tmp_path / "x.npy", description=UNITS, overwrite=True)


def import_and_return(folder, csi, **arguments):
    np.save(folder / "x.npy", csi)
    import_set(folder / "x.npy", folder / "kept.h5", description=UNITS, **arguments)
    return folder / "kept.h5"


def test_a_refused_file_leaves_nothing_and_says_what_it_is(tmp_path, golden):
    """Values are seen only while they are written; a damaged file is not called one of an unknown layout."""
    h = np.ones((3, 4, 2, 2), np.complex64)
    h[1, 0, 0, 0] = np.nan
    np.save(tmp_path / "nan.npy", h)
    (tmp_path / "text.mat").write_text("no MATLAB file" * 50)
    golden.put_v73(tmp_path / "whole.mat", "X_val", np.ones((3, 4, 2, 2), complex))
    (tmp_path / "half.mat").write_bytes((tmp_path / "whole.mat").read_bytes()[:1500])
    (tmp_path / "x.npz").write_text("no archive")
    options = {"axes": "link,slot,subcarrier,tx_ant"}
    units = replace(golden.units, port_shape=(1, 2, 1))
    out = tmp_path / "out" / "x.h5"
    with pytest.raises(StoreError, match="link 1 has NaN"):
        import_set(tmp_path / "nan.npy", out, description=units, options=options)
    assert not list(out.parent.iterdir())
    for name, said in {"text.mat": "cannot be read as a MATLAB file", "half.mat": "trunc", "x.npz": "damaged"}.items():
        with pytest.raises(StoreError, match=said):
            import_set(tmp_path / name, out, description=units)
    h[1] = 1
    np.save(tmp_path / "nan.npy", h)
    import_set(tmp_path / "nan.npy", out, description=units, options=options)
    with pytest.raises(StoreError, match="is an airlam store already"):
        import_set(out, tmp_path / "y.h5", description=units)
