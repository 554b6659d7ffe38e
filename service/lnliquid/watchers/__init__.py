"""The watchers: every background task, which together bring each swap to its end."""
