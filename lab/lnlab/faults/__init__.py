"""Faults of a running lab: misbehaving proxies, held payments, dropped transactions."""
