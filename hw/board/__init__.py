"""A chip on a board: its bus at the end of a serial line."""
