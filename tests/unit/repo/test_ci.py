"""The workflow of continuous integration asks for things that exist, and for no more rights."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # comes without types

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / ".github" / "workflows" / "ci.yaml").read_text()
WORKFLOW: dict[Any, Any] = yaml.safe_load(TEXT)
JOBS: dict[str, dict[str, Any]] = WORKFLOW["jobs"]
STEPS = [(name, step) for name, job in JOBS.items() for step in job["steps"]]
COMMANDS = [str(step["run"]) for _, step in STEPS if "run" in step]
RIGHT_TO_READ = {"contents": "read"}


def test_it_runs_on_changes_and_at_night() -> None:
    """Pushes and pull requests start it, and a schedule does."""
    triggers = WORKFLOW[True]  # YAML 1.1 reads `on` as a truth value
    assert {"push", "pull_request", "schedule"} <= set(triggers)
    assert re.fullmatch(r"\d+ \d+ \* \* \*", triggers["schedule"][0]["cron"])


def test_no_job_has_more_than_the_right_to_read() -> None:
    """The token reads the repository; no job asks for more, and none keeps it on disk."""
    assert WORKFLOW["permissions"] == RIGHT_TO_READ
    assert all(job.get("permissions", RIGHT_TO_READ) == RIGHT_TO_READ for job in JOBS.values())
    checkouts = [step for _, step in STEPS if "checkout" in step.get("uses", "")]
    assert len(checkouts) == len(JOBS)
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    assert "secrets." not in TEXT


def test_actions_are_pinned() -> None:
    """Every action is GitHub's own, at a version."""
    used = [step["uses"] for _, step in STEPS if "uses" in step]
    assert used
    assert [one for one in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", one)] == []


@pytest.mark.parametrize("name", JOBS)
def test_every_job_ends_and_keeps_what_failed(name: str) -> None:
    """A job has a limit in time; a failure leaves its labs, and only a failure does."""
    job = JOBS[name]
    assert 0 < job["timeout-minutes"] <= 180
    uploads = [step for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
    assert len(uploads) == 1
    assert all(step["if"] == "failure()" for step in uploads)


def test_runs_of_one_branch_do_not_pile_up() -> None:
    """A newer commit of a pull request ends the run of the older one."""
    assert "pull_request" in WORKFLOW["concurrency"]["cancel-in-progress"]


def test_the_first_job_is_the_one_of_the_readme() -> None:
    """What runs on embedded nodes is what `.ci/run` runs."""
    assert "bash .ci/run" in [step.get("run") for step in JOBS["embedded"]["steps"]]


def test_recipes_exist() -> None:
    """What is called of the justfile is in it."""
    recipes = set(re.findall(r"^([a-z-]+)(?: \*?\w+)*:", (ROOT / "justfile").read_text(), re.M))
    called = {name for command in COMMANDS for name in re.findall(r"justw ([a-z]\S*)", command)}
    assert called
    assert called <= recipes


def test_files_exist() -> None:
    """Paths in the commands lead to files of the repository."""
    pattern = r"(?<![\w$/.])(?:\.ci|deploy|tests|tools|lab)/[\w./-]+"
    paths = {path for command in COMMANDS for path in re.findall(pattern, command)}
    assert paths
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_named_tests_exist() -> None:
    """Tests chosen by name are in the files that they are chosen from, and take containers."""
    chosen = 0
    for command in COMMANDS:
        for path in re.findall(r"tests/\S+\.py", command):
            text = (ROOT / path).read_text()
            names = set(re.findall(r"\btest_\w+", command.replace(path, "")))
            assert names <= set(re.findall(r"def (test_\w+)", text))
            chosen += len(names)
    assert chosen
    variables = set(JOBS["compose"]["env"])
    conftest = (ROOT / "tests" / "e2e" / "conftest.py").read_text()
    assert all(f'"{name}"' in conftest for name in variables)


def test_the_simulation_takes_these_options() -> None:
    """Options given to the simulation are its own."""
    (command,) = [command for command in COMMANDS if "justw sim" in command]
    options = set(re.findall(r" (--[a-z-]+)", command))
    known = (ROOT / "tests" / "sim" / "__main__.py").read_text()
    assert {"--fresh", "--steps"} <= options
    assert [option for option in options if f'"{option}"' not in known] == []
