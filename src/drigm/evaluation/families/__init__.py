"""Controllers that do not learn, by the kind of environment that they are made for."""
