"""Who takes part in a round, with which share of the band, and what that costs: the modelled radio and devices."""

from __future__ import annotations

import math

from flwr.serverapp import Grid

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.server.exchange import Exchange
from airlam.edge.federated.server.record import RoundRecord
from airlam.edge.federated.server.roster import Roster
from airlam.edge.federated.wire import wire_bytes
from airlam.edge.selection import Allocation, Candidate, choose
from airlam.resources import draw_link


class RoundPlanner:
    """Plans the rounds of a run.

    Attributes:
        last_round: number of a site -> the round in which it last took part.
    """

    def __init__(self, federation: Federation, roster: Roster, exchange: Exchange):
        self.federation, self.roster, self.exchange = federation, roster, exchange
        self.last_round: dict[int, int] = {}

    def note(self, rounds: list[RoundRecord]) -> None:
        """Take up the rounds that were done before a restart."""
        for record in rounds:
            self.last_round.update(dict.fromkeys(record.chosen, record.number))

    def plan(self, grid: Grid, number: int, arrays: Arrays) -> RoundRecord:
        """The record of round ``number`` as it is planned: sites, shares of the band, seconds and joules."""
        f, roster = self.federation, self.roster
        roster.meet(grid)
        record, found = RoundRecord(number), self.candidates(number, arrays)
        record.strays, roster.troubles = roster.troubles, []
        record.outage = [f.site_specs[site].label for site in sorted(set(roster.sites.values())) if site not in found]
        if not found:
            return record
        numbers, candidates = list(found), list(found.values())
        allocation: Allocation = choose(
            f.participation.policy,
            candidates,
            min(f.participation.devices, len(candidates)),
            server_round=number,
            seed=f.seed,
            max_joules=f.participation.max_joules,
        )
        for index, bandwidth in zip(allocation.chosen, allocation.bandwidth, strict=True):
            site, seconds = numbers[index], candidates[index].seconds(bandwidth)
            if not math.isfinite(sum(seconds)):  # an equal share is too wide for its power
                record.outage.append(f.site_specs[site].label)
                continue
            record.chosen.append(site)
            record.bandwidth[site], record.seconds[site] = bandwidth, list(seconds)
            record.joules[site] = candidates[index].joules(bandwidth)
            self.last_round[site] = number
        record.delay = max((sum(s) for s in record.seconds.values()), default=0.0)
        # the edge server computes for all split devices, between their messages
        work = sum(roster.costs[site]["server-flops"] for site in record.chosen)
        record.server_seconds = f.edge_server.compute_seconds(work)
        record.delay += record.server_seconds
        record.server_joules = f.edge_server.compute_watts * record.server_seconds
        return record

    def candidates(self, number: int, arrays: Arrays) -> dict[int, Candidate]:
        """The sites that are there and not in outage, with the radio of round ``number``."""
        f, found = self.federation, {}
        for site in sorted(set(self.roster.sites.values())):
            spec, costs = f.site_specs[site], self.roster.costs[site]
            link = draw_link(
                f.radio, spec.distance_m, spec.device.transmit_dbm, place_seed=spec.seed, round_seed=[f.seed, number]
            )
            if link.in_outage:
                continue
            sent = self.exchange.view(site, arrays)
            down, up = (self.exchange.on_device(site, part) for part in (sent, self.exchange.expected(site, sent)))
            age = number - self.last_round.get(site, 0)
            found[site] = Candidate(
                spec.device,
                link,
                flops=costs["flops"],
                down_bytes=wire_bytes(down, f.wire) + costs["activations"],
                up_bytes=wire_bytes(up, f.wire) + costs["activations"],
                samples=int(costs["num-examples"]),
                must=f.participation.max_age is not None and age >= f.participation.max_age,
            )
        return found
