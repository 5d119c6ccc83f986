"""Antenna panels of a recipe as Sionna's arrays."""

from __future__ import annotations

from airlam.channels.sionna_stream import import_sionna


def panel_array(panel: dict, carrier_frequency: float):
    """Sionna's ``PanelArray``: half-wavelength spacing; ``dual`` is a pair at +-45 degrees, ``single`` is vertical.

    Ports run over polarisations, then columns, then rows from top to bottom (Sionna's own order).
    """
    import_sionna()
    from sionna.phy.channel.tr38901 import PanelArray

    dual = panel["polarisation"] == "dual"
    return PanelArray(
        num_rows_per_panel=panel["rows"],
        num_cols_per_panel=panel["columns"],
        polarization=panel["polarisation"],
        polarization_type="cross" if dual else "V",
        antenna_pattern=panel["pattern"],
        carrier_frequency=carrier_frequency,
        precision="single",
        device="cpu",
    )
