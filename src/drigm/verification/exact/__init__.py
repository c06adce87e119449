"""Exact answers for small problems: robust dynamic programming, the DrIGM checker, the counterexample, the theorem.

numpy only; nothing is shared with the learner, whose results are checked against these.
"""

from drigm.verification.exact.agent_wise import AgentWiseReport, agent_wise_values, check_agent_wise, with_failures
from drigm.verification.exact.counterexample import Counterexample, counterexample_problem, fooled, solve_counterexample
from drigm.verification.exact.dec_pomdp import from_dec_pomdp
from drigm.verification.exact.drigm import KINDS, DrIGMCheck, Representation, at_state, check_drigm, decompose
from drigm.verification.exact.problems import TabularProblem, gamble_problem, make_problem, random_problem
from drigm.verification.exact.solve import (
    Model,
    model_values,
    nominal_model,
    policy_values,
    robust_values,
    state_values,
    worst_model,
)
from drigm.verification.exact.static_worlds import StaticReport, World, identification_problem, solve_static
from drigm.verification.exact.theorem import (
    Outcome,
    TheoremReport,
    check_problem,
    check_theorem,
    draw_problem,
    plant,
    private_failure,
)
from drigm.verification.exact.worst_cases import WORST_CASE, WorstCase, worst_case, worst_values

__all__ = [
    "KINDS",
    "WORST_CASE",
    "AgentWiseReport",
    "Counterexample",
    "DrIGMCheck",
    "Model",
    "Outcome",
    "Representation",
    "StaticReport",
    "TabularProblem",
    "TheoremReport",
    "World",
    "WorstCase",
    "agent_wise_values",
    "at_state",
    "check_agent_wise",
    "check_drigm",
    "check_problem",
    "check_theorem",
    "counterexample_problem",
    "decompose",
    "draw_problem",
    "fooled",
    "from_dec_pomdp",
    "gamble_problem",
    "identification_problem",
    "make_problem",
    "model_values",
    "nominal_model",
    "plant",
    "policy_values",
    "private_failure",
    "random_problem",
    "robust_values",
    "solve_counterexample",
    "solve_static",
    "state_values",
    "with_failures",
    "worst_case",
    "worst_model",
    "worst_values",
]
