"""``airlam import``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from airlam.cli import UsageError
from airlam.cli.parsing import Parser

OWN_OPTIONS = ("axes", "variable", "every", "slots", "subcarriers", "tx_set", "tx", "rx_set", "azimuth_deg", "link")
OWN_OPTIONS += ("scenes", "elements", "order", "future", "speed_kmh")


def import_data_set(arguments: Sequence[str]) -> None:
    """Writes a store from a foreign data set."""
    parser = Parser(
        "airlam import",
        "Write an HDF5 store from a foreign data set of CSI. The result is read like a generated one. An interrupted\n"
        "import leaves no store.",
        "Layouts, their conventions and their options: docs/import.md.",
    )
    parser.add_argument("file", metavar="FILE", help="the data set: a file or a folder")
    parser.add_argument("--out", "-o", required=True, metavar="STORE", help="the store to write")
    parser.add_argument("--layout", default="auto", metavar="NAME", help="of FILE (default: auto, as it looks)")
    parser.add_argument("--overwrite", action="store_true", help="replace a store that is there")
    told = parser.add_argument_group("what the file does not tell")
    told.add_argument("--slot-s", "--slot_s", type=float, metavar="S", help="seconds from slot to slot")
    told.add_argument("--carrier-hz", "--carrier_hz", type=float, metavar="HZ", help="carrier frequency")
    told.add_argument(
        "--subcarrier-spacing-hz", "--subcarrier_spacing_hz", type=float, metavar="HZ", help="of the file's subcarriers"
    )
    told.add_argument("--port-shape", "--port_shape", metavar="P,C,R", help="polarisations, columns, rows of tx_ant")
    told.add_argument("--conjugate", action="store_true", help="the file's phases turn the other way")
    told.add_argument("--split", default="0.8,0.1,0.1", metavar="T,V,T", help="train, val, test (default: %(default)s)")
    told.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw of the splits (default: 0)")
    own = parser.add_argument_group("options of some layouts")
    own.add_argument("--axes", metavar="NAMES", help="numpy: names of the axes, such as link,slot,subcarrier,tx_ant")
    own.add_argument("--variable", metavar="NAME", help="the array of FILE, where there are several")
    own.add_argument("--every", metavar="N", help="matlab-5g: one slot from each N symbols (default: 1)")
    own.add_argument("--slots", metavar="N", help="slots of a link (matlab-5g: all; deepmimo: 1)")
    own.add_argument("--subcarriers", metavar="N", help="layouts of paths: how many, centred at the carrier")
    own.add_argument("--tx-set", "--tx_set", metavar="N", help="deepmimo: the transmitter's set")
    own.add_argument("--tx", metavar="N", help="deepmimo: the transmitter in its set; channels4world: the base station")
    own.add_argument("--rx-set", "--rx_set", metavar="N", help="deepmimo: the receivers' set")
    own.add_argument("--azimuth-deg", "--azimuth_deg", metavar="DEG", help="deepmimo: where the panel looks")
    own.add_argument("--elements", metavar="ORDER", help="quadriga: of transmit elements: listed (default) or 3gpp")
    own.add_argument("--order", metavar="AXES", help="wimae: subcarrier,antenna, if they are not antenna,subcarrier")
    own.add_argument("--scenes", metavar="NAMES", help="channels4world: scenes, separated by commas (default: all)")
    own.add_argument("--link", metavar="WAY", help="llm4cp: up (default, history and future) or down (future only)")
    own.add_argument("--future", metavar="FILE", help="llm4cp: the file of the future, if it is elsewhere")
    own.add_argument("--speed-kmh", "--speed_kmh", metavar="A,B", help="llm4cp: first and last; layouts of paths: one")
    known = parser.parse_strictly(arguments)
    if not known.out:
        raise UsageError("--out is empty; name a file")

    from airlam.data import CSIStore
    from airlam.data.importers.sets import Description, import_set

    notes = import_set(
        known.file,
        known.out,
        layout=known.layout,
        description=Description(
            slot_s=known.slot_s,
            carrier_hz=known.carrier_hz,
            subcarrier_spacing_hz=known.subcarrier_spacing_hz,
            port_shape=known.port_shape and _numbers("--port-shape", known.port_shape, int),
            split=_numbers("--split", known.split, float),
            seed=known.seed,
            conjugate=known.conjugate,
        ),
        options={name: getattr(known, name) for name in OWN_OPTIONS},
        overwrite=known.overwrite,
    )
    with CSIStore(known.out) as store:
        parts = ", ".join(f"{end - start} {name}" for name, (start, end) in store.splits.items())
        print(f"{known.out} written: {len(store)} links ({parts}), h {list(store.h.shape[1:])}")
    for note in notes:
        print(f"note: {note}")
    print(f"use it with: airlam fit --config tasks/... --data.store {known.out}")
    print(f"or: airlam evaluate --config tasks/channel_prediction/stored_set.yaml --store {known.out}")


def _numbers(option: str, text: str, kind: Callable[[str], float]) -> list:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} is '{text}', but must be numbers separated by commas") from None
