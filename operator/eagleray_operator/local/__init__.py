"""Local mode: the same resources and the same controller, with a cluster in memory and a private Ray on this machine."""
