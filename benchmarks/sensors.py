"""What sensors add at a site where position and channel belong together: airlam-tiny adapted with and without them.

    python -P benchmarks/sensors.py [--sites 2] [--users 1024] [--steps 250] [--out runs/sensors.json]

A site is one spatially consistent street canyon (``channels/umi_site.yaml``): neighbours see similar clusters. Of its
users three quarters adapt the model, an eighth decides when to stop, an eighth judges. Every arm trains all weights
with the same links, noise and steps; arms differ in the sensor tokens they see (true velocity, true position). Prints
the NMSE of the judging users (mean of dB) and the paired difference to the arm without sensors, with its 95 % interval
over users and sites.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from airlam.channels import LinkBatch, load_channel
from airlam.csi import measure
from airlam.evaluation.engine.training import Choice, adapt, readings
from airlam.metrics import bootstrap_interval
from airlam.models import AirlamModel, load_checkpoint
from airlam.recipes import find_checkpoint
from airlam.tasks.objectives import forecast_error

HISTORY, HORIZON, CSI_SNR_DB = 16, 4, 20.0
ARMS: dict[str, list[str]] = {
    "no sensors": [],
    "velocity": ["velocity", "cell"],
    "position": ["position"],
    "velocity and position": ["velocity", "position", "cell"],
}


def judge(model: AirlamModel, links: LinkBatch, past: torch.Tensor) -> torch.Tensor:
    """NMSE in dB of each link."""
    with torch.no_grad():
        errors = [
            forecast_error(
                model,
                past[n : n + 32],
                links.h[n : n + 32, HISTORY:],
                links.port_shape,
                readings(links, slice(n, n + 32)),
            ).nmse
            for n in range(0, len(past), 32)
        ]
    return 10 * torch.cat(errors).log10()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=2)
    parser.add_argument("--users", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--out", type=Path, default=Path("runs/sensors.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    channel = load_channel({**load_channel("umi_site").recipe, "links_per_drop": arguments.users})
    found: dict[str, list[torch.Tensor]] = {"zero-shot": [], **{arm: [] for arm in ARMS}}
    for site in track(range(arguments.sites), description="sites"):
        links = channel.sample(arguments.users, HISTORY + HORIZON, seed=100 + site)
        order = torch.randperm(arguments.users, generator=torch.Generator().manual_seed(site))
        train, val, test = (
            links[part]
            for part in order.split([arguments.users - 2 * (arguments.users // 8)] + 2 * [arguments.users // 8])
        )
        past = measure(test.h[:, :HISTORY], CSI_SNR_DB, torch.Generator().manual_seed(site))
        found["zero-shot"].append(judge(load_checkpoint(find_checkpoint("airlam-tiny")), test, past))
        for arm, sensors in ARMS.items():
            start = load_checkpoint(find_checkpoint("airlam-tiny"))
            if sensors:
                torch.manual_seed(site)
                start.add_context(sensors)
            choice = Choice(arguments.learning_rate)
            model = adapt(
                start,
                train,
                val,
                choice,
                steps=arguments.steps,
                batch_size=32,
                history=HISTORY,
                csi_snr_db=CSI_SNR_DB,
                seed=site,
                precision="bfloat16",
            ).model
            found[arm].append(judge(model, test, past))
    errors = {arm: torch.cat(values) for arm, values in found.items()}
    table = Table("", "NMSE, mean of dB", "against no sensors [dB]", title="sensors at a site")
    record = {}
    for arm, error in errors.items():
        gain = errors["no sensors"] - error
        _, low, high = bootstrap_interval(gain, seed=0)
        record[arm] = {"nmse_mean_db": float(error.mean()), "gain_db": float(gain.mean()), "interval": [low, high]}
        table.add_row(arm, f"{error.mean():.2f}", f"{gain.mean():+.2f} ({low:+.2f} to {high:+.2f})")
    Console().print(table)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
