"""The mathematics checked: exact solutions of small problems, and DrIGM of trained teams."""
