# Sourced by scripts that make an environment of its own for one test: goes to the repository's root and makes $venv
# with the interpreter $1. Where it is there and complete, the script ends; it is complete once .complete is touched.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -f "$venv/.complete" ]; then
    echo "$venv is there already"
    exit 0
fi
rm -rf "$venv"
"${1:-python3}" -m venv "$venv"
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
