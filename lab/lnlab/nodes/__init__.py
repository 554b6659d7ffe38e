"""The nodes a lab runs on: embedded, real processes, containers; one record describes them all."""
