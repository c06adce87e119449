"""What a person wants to know of an exported agent, from its contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drigm.core.errors import UserError, check
from drigm.deployment.files import LoadError, contracts, network_file, read_contract
from drigm.runtime.files import file_digest


def contracts_in(path: Path) -> list[dict[str, Any]]:
    """Return the contracts of the exported agents in a folder, or of the one whose file is named.

    Raises:
        UserError: there is none, or a file is not what was written.
    """
    try:
        check(path.exists(), "path", str(path), "give what drigm export wrote: a folder, or a file of an agent")
        files = list(contracts(path).values()) if path.is_dir() else [path.with_suffix(".json")]
        found = [(file, read_contract(file)) for file in files]
        for file, contract in found:
            network = network_file(file, contract)
            message = "it is damaged, or not the file that the contract was written for"
            check(file_digest(network) == contract["network"]["sha256"], "network", str(network), message)
    except LoadError as error:
        raise UserError(str(error)) from None
    except (KeyError, TypeError) as error:
        raise UserError(f"path: {path} has a contract that lacks its network ({error!r:.80}).") from None
    return [contract for _, contract in found]


def described(contract: Mapping[str, Any]) -> str:
    """Return a page of text about an exported agent; `UserError` where its contract lacks something."""
    parts = (_head, _readings, _actions, _memory, _safety, _parity, _scores)
    try:
        return "\n\n".join(part(contract) for part in parts)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        message = f"lacks something, or has it in another form ({error!r:.80})"
        raise UserError(f"contract: that of {contract['agent']!r:.80} {message}.") from None


def _head(contract: Mapping[str, Any]) -> str:
    trained, network, step = contract["trained"], contract["network"], contract["step"]
    seconds = "" if step["seconds"] is None else f" of {step['seconds']:g} s"
    lines = {
        "agent": f"{contract['agent']} ({contract['index'] + 1} of {len(contract['team'])})",
        "trained": f"{trained['method']}, seed {trained['seed']}, {trained['steps']:,} steps of {trained['env']}",
        "episodes": f"of {step['episode_steps']} steps{seconds}",
        "network": f"{network['file']} ({network['format']}), SHA-256 {network['sha256'][:16]}...",
        "written by": f"drigm {contract['drigm']}, schema {contract['schema']}",
    }
    if network["format"] == "onnx":
        lines["graph"] = f"opset {network['opset']}, IR {network['ir']}; {', '.join(network['inputs'])}"
    lines |= {name: trained[name] for name in ("perturb", "worlds") if trained[name]}
    return "\n".join(f"{name:<12}{value}" for name, value in lines.items())


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )


def _number(x: float | None) -> str:
    return "-" if x is None else f"{x:.6g}"


def _readings(contract: Mapping[str, Any]) -> str:
    rows = [
        (
            str(i),
            one["name"],
            one["unit"] or "-",
            _number(one["low"]),
            _number(one["high"]),
            f"(x - {one['offset']:.6g}) / {one['scale']:.6g}",
            "yes" if one["stale"] else "by stamp",
        )
        for i, one in enumerate(contract["readings"])
    ]
    return _table(("readings", "name", "unit", "lowest", "highest", "inside the network", "checked for stale"), rows)


def _actions(contract: Mapping[str, Any]) -> str:
    actions = contract["actions"]
    last = actions["first"] + actions["count"] - 1
    lines = [
        f"actions     {actions['first']} to {last}, idle {actions['idle']}"
        + ("; some may be masked" * actions["masked"])
    ]
    if actions["values"] is not None:
        lines.append(f"            levels {actions['values'][0]:g} to {actions['values'][-1]:g}")
    if actions["meaning"]:
        lines.append(f"            {actions['meaning']}")
    if actions["names"]:
        lines.append(f"            {', '.join(actions['names'][:20])}")
    return "\n".join(lines)


def _memory(contract: Mapping[str, Any]) -> str:
    parts = [f"{one['name']} {one['shape']} from {one['reset']}" for one in contract["memory"]]
    return f"memory      {'; '.join(parts)}"


def _safety(contract: Mapping[str, Any]) -> str:
    safety, seconds = contract["safety"], contract["step"]["seconds"]
    fallback = ", ".join(f"{key} {value}" if key != "kind" else str(value) for key, value in safety["fallback"].items())
    hold = f"{safety['hold_steps']} steps" + (f" ({safety['hold_steps'] * seconds:g} s)" if seconds else "")
    late = "not watched" if safety["late_seconds"] is None else f"after {safety['late_seconds']:g} s without a step"
    stale = f"without a new value for {safety['stale_steps']} steps" if safety["stale_steps"] else "never"
    return f"bad input   held for {hold}, then: {fallback}\nstale       {stale}\nlate        {late}"


def _parity(contract: Mapping[str, Any]) -> str:
    lines = []
    for runtime, one in contract["parity"].items():
        if runtime != "tie":
            lines.append(
                f"parity      {runtime}: {one['steps']:,} decisions beside the trainer's agent, "
                f"{one['differing']} differ, {one['ties']} ties, values within {one['largest_q_difference']:.2g}"
            )
    return "\n".join(lines)


def _scores(contract: Mapping[str, Any]) -> str:
    if not contract["evaluated"]:
        return "scores      none stored (drigm export --shifts SUITE)"
    return "\n\n".join(_evaluation(one) for one in contract["evaluated"])


def _evaluation(one: Mapping[str, Any]) -> str:
    def interval(found: Mapping[str, Any]) -> str:
        return "-" if found["low"] is None else f"[{found['low']:.3f}, {found['high']:.3f}]"

    rows = [
        (world["world"], _score(world["score"]), _score(world["seeds"]["mean"]), interval(world["seeds"]))
        for world in one["worlds"]
    ]
    rows.append(
        ("mean", _score(one["mean"]["score"]), _score(one["mean"]["seeds"]["mean"]), interval(one["mean"]["seeds"]))
    )
    seeds = one["worst_per_seed"]
    rows.append(
        (f"worst ({one['worst']['world']})", _score(one["worst"]["score"]), _score(seeds["mean"]), interval(seeds))
    )
    return _table((one["suite"], "this seed", f"{one['seeds']} seed{'s' * (one['seeds'] > 1)}", "95 % interval"), rows)


def _score(x: float | None) -> str:
    return "-" if x is None else f"{x:.3f}"
