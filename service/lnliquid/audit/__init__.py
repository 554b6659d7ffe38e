"""The audit: store against chain against Lightning. It changes nothing."""
