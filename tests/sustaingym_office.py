"""SustainGym's own environment for drigm's worker processes; runs with the Python of .venv-sustaingym."""

import contextlib
import io

from sustaingym.envs.building import MultiAgentBuildingEnv, ParameterGenerator


class Office(MultiAgentBuildingEnv):
    """The small office in Tucson; any seed becomes one of the first 200 days (SustainGym takes the day as its seed)."""

    def reset(self, seed=None, options=None):
        return super().reset(seed=None if seed is None else seed % 200, options=options)


def office():
    with contextlib.redirect_stdout(io.StringIO()):  # it prints every zone
        parameters = ParameterGenerator(
            building="OfficeSmall", weather="Hot_Dry", location="Tucson", is_continuous_action=False
        )
    return Office(parameters)
