"""Lightning: Core Lightning over its unix socket."""
