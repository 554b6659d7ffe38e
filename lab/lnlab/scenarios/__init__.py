"""Whole flows on a running lab, as functions: the CLI and the tests call the same ones."""
