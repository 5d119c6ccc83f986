"""What geometry says of the power at a place, fitted over many sites: the source of airlam.baselines.radio_maps.CITIES.

    python benchmarks/radio_map_drift.py [--data datasets/city_regions.yaml] [--folder data/city_regions]

Least squares over all stations of the training regions that a third of the places hear, and how far the stations' own
coefficients deviate from it. Regions are ray-traced first where they are not there.
"""

from __future__ import annotations

import argparse

import torch
import yaml

from airlam.baselines.radio_maps import Geometry, drift_terms
from airlam.csi.site_map import FLOOR_DB
from airlam.data import CityDataModule
from airlam.data.city_regions import CityRegion, read_region

SNR_DB = 40.0
RIDGE = 0.5  # per hundred places: a station alone does not tell all coefficients


def fitted(regions: list[CityRegion], drift: str = "heights") -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients, and their standard deviations over stations."""
    terms, values = [], []
    for region in regions:
        power = region.map.over_noise(SNR_DB).power_db.double()
        trend = drift_terms(drift, Geometry.of(region.stations, region.map.place, region.heights))
        for station in ((power > FLOOR_DB).double().mean(0) > 0.3).nonzero()[:, 0]:
            terms.append(trend[:, station])
            values.append(power[:, station])
    mean = torch.linalg.lstsq(torch.cat(terms), torch.cat(values)[:, None]).solution[:, 0]
    eye = torch.eye(len(mean)).double()
    own = [
        torch.linalg.solve(a.mT @ a / 100 + RIDGE * eye, a.mT @ (z - a @ mean) / 100)
        for a, z in zip(terms, values, strict=True)
    ]
    return mean, torch.stack(own).square().mean(0).sqrt()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="datasets/city_regions.yaml")
    parser.add_argument("--folder")
    arguments = parser.parse_args()
    with open(arguments.data, encoding="utf-8") as file:
        given = yaml.safe_load(file)["init_args"]
    data = CityDataModule(**{**given, **({"folder": arguments.folder} if arguments.folder else {})})
    data.prepare_data()
    mean, deviation = fitted([read_region(path) for path in data.files("train")])
    print("mean     ", [round(x, 2) for x in mean.tolist()])
    print("deviation", [round(x, 2) for x in deviation.tolist()])


if __name__ == "__main__":
    main()
