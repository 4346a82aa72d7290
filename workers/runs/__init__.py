"""The files of a run, and the figures and events that they hold."""
