"""The one exception that drigm raises for bad input."""


class UserError(ValueError):
    """Bad input, said in one sentence: the field, what was given, what is allowed.

    The command line prints the sentence and exits with code 2; Python callers see a ``ValueError``.
    """


def check(ok: bool, field: str, given: object, allowed: str) -> None:
    """Raise `UserError` naming ``field``, what was ``given`` and what is ``allowed`` unless ``ok``."""
    if not ok:
        raise UserError(f"{field}: {given!r} is not allowed; {allowed}.")


def choose(field: str, given: str, allowed: "list[str] | tuple[str, ...]") -> str:
    """Return ``given`` if it is one of ``allowed``, else raise `UserError` listing them."""
    check(given in allowed, field, given, f"choose one of {', '.join(map(str, allowed))}")
    return given
