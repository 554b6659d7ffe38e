# Run through ./justw, which sets up .venv first.

set positional-arguments := true

# list the recipes
default:
    @just --list

# start an embedded lab, sell an asset over Lightning, show every step
demo *args:
    lnlab demo "$@"

# formatter, linter, types, schema, docs, then all tests (real nodes too, where they are on PATH)
test: check
    pytest tests -n 3 --dist worksteal

# formatter, linter, types, schema, what is generated from the code, words, and every link of the docs
check:
    ruff format --check .
    ruff check .
    mypy
    python -m tools.proto check
    python -m tools.diagram --check
    python -m tools.apidoc --check
    python -m tools.words
    NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

# unit tests only
unit *args:
    pytest tests/unit -n 2 --dist worksteal "$@"

# whole flows, on the embedded lab and on real nodes where they are on PATH
e2e *args:
    pytest tests/e2e -n 2 --dist worksteal "$@"

# the daemon's code through random schedules with faults and crashes, as `sim --fresh 100 --jobs 2`
sim *args:
    python -m tests.sim "$@"

# every interleaving of one or two swaps to a bounded depth, over the daemon's own decisions
model *args:
    python -m tests.model "$@"

# figures against their baselines
bench *args:
    python -m bench "$@"

# start a lab that stays, with a seller daemon in it: in containers where they can start at once
[no-exit-message]
lab-up *args:
    lnlab up --nodes auto "$@"

# end it; --wipe removes its data too
[no-exit-message]
lab-down *args:
    lnlab down "$@"

# what runs, where it listens, how high the chain is
[no-exit-message]
lab-status *args:
    lnlab status "$@"

# the ends of its logs
[no-exit-message]
lab-logs *args:
    lnlab logs "$@"

# a shell in one of its containers, or one that knows the lab
[no-exit-message]
lab-shell *args:
    lnlab shell "$@"

# build the seller daemon's image, lnliquid:latest
image *args:
    docker build --file deploy/Dockerfile --tag lnliquid:latest --build-arg VERSION="$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)" --build-arg REVISION="$(git describe --always --abbrev=40 --dirty)" "$@" .

# write what is generated: schema code, diagram, API reference
gen:
    python -m tools.proto gen
    python -m tools.diagram
    python -m tools.apidoc

# show the pages of docs/ as a site on loopback, anew with each change
docs:
    NO_MKDOCS_2_WARNING=1 mkdocs serve --strict

# format, and repair what can be repaired
fix:
    ruff format .
    ruff check --fix .
