"""`lnliquid top`: the live view for the operator, over the operator's gRPC listener."""
