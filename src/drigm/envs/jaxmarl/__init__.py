"""Environments of JaxMARL: SMAX and MPE."""
