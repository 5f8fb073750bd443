"""The pure part: no socket, clock, thread or file. Events go in, actions and data come out."""
