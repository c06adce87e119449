"""The options in an environment's id, as in ``serial4?sales=lost&weeks=104``."""

from __future__ import annotations

from collections.abc import Collection

from drigm.core.errors import check, choose


def parse_query(field: str, query: str, known: Collection[str]) -> dict[str, str]:
    """Return the texts of the options ``OPTION=VALUE&...``, by name.

    Args:
        field: what messages call an option.
        query: what stands after the question mark.
        known: the names that there are.

    Raises:
        UserError: an option is unknown, has no value, or is given twice.
    """
    given: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        option, equals, text = part.partition("=")
        choose(field, option, tuple(known))
        check(bool(equals) and option not in given, field, part, "give OPTION=VALUE once")
        given[option] = text
    return given
