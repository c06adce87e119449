"""A plug-in of drigm: one environment, one uncertainty set, one factorization, one perturbation (docs/plug-ins.md)."""


def register() -> None:
    """Give each its name; drigm calls this in every process that asks for a name that it does not know itself."""
    import drigm
    from drigm_example.cvar import CVaR
    from drigm_example.packet_loss import PACKET_LOSS
    from drigm_example.rooms import rooms
    from drigm_example.weighted import Weighted

    drigm.register_env("rooms", rooms, pattern="rooms:HOURS", parts=lambda: {"HOURS": ["12", "24"]})
    drigm.register_uncertainty(CVaR)
    drigm.register_factorization(Weighted)
    drigm.register_perturbation("packet_loss", PACKET_LOSS)
