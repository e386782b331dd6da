"""Pure rules: no clock, no socket, no database. Everything here can be tested with values alone."""
