# Run through ./justw, which sets up .venv first.

# list the recipes
default:
    @just --list

# start an embedded lab, sell an asset over Lightning, show every step
demo *args:
    lnlab demo {{args}}

# formatter, linter, types, schema, docs, then all tests (real nodes too, where they are on PATH)
test: check
    pytest tests -n 2

# what continuous integration runs
ci: test

# formatter, linter, types, schema and what is generated from the code
check:
    ruff format --check .
    ruff check .
    mypy
    python -m tools.proto check
    python -m tools.diagram --check

# unit tests only
unit *args:
    pytest tests/unit -n 2 {{args}}

# whole flows, on the embedded lab and on real nodes where they are on PATH
e2e *args:
    pytest tests/e2e -n 2 {{args}}

# the daemon's code through random schedules with faults and crashes
sim *args:
    python -m tests.sim {{args}}

# figures against their baselines
bench *args:
    python -m bench {{args}}

# start a lab that stays, with a seller daemon in it
lab-up *args:
    lnlab up {{args}}

# end it
lab-down *args:
    lnlab down {{args}}

# write what is generated: schema code, diagram
gen:
    python -m tools.proto gen
    python -m tools.diagram

# format, and repair what can be repaired
fix:
    ruff format .
    ruff check --fix .
