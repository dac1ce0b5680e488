"""Transactions like the mission's, defects and all, from the published simulation method."""

from zaslon.simulate.defects import DEFECTS
from zaslon.simulate.profiles import SimulationProfile, profile, simulation_profile
from zaslon.simulate.world import SimulatedDay, simulate_days
from zaslon.simulate.writing import SimulationReport, write_simulation

__all__ = [
    "DEFECTS", "SimulatedDay", "SimulationProfile", "SimulationReport",
    "profile", "simulate_days", "simulation_profile", "write_simulation",
]  # fmt: skip
