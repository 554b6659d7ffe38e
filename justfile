# Run through ./justw, which sets up .venv first.

# list the recipes
default:
    @just --list

# start an embedded lab, sell an asset over Lightning, show every step
demo *args:
    lnlab demo {{args}}

# formatter, linter, types, schema, imports and unit tests, then e2e on the embedded lab
test: check unit e2e

# everything that .ci/run runs
ci: test

# formatter, linter, types, schema
check:
    ruff format --check .
    ruff check .
    mypy
    python -m tools.proto check

# unit tests
unit *args:
    pytest tests/unit -n 2 {{args}}

# whole flows on the embedded lab, and on real nodes where they are on PATH
e2e *args:
    pytest tests/e2e -n 2 {{args}}

# write the generated code from the schema
proto:
    python -m tools.proto gen

# format and repair what can be repaired
fix:
    ruff format .
    ruff check --fix .
