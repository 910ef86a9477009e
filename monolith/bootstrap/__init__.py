"""Puts the program together: the only package that knows every adapter. Each module wires one piece; `program` all."""
