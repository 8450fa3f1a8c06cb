"""The agents that squib can run: one file each, saying how its program is started and how its output is read.

Does: `registry` names them; an adapter turns a `Turn` into a `Command`, and lines of output into events and an
outcome. Adapters and parsers are pure. Must not: start anything, do I/O (the mock agent's own program, in
`mock_program`, runs as a process of its own), believe that a line is well formed, import more than it needs: the
guest imports this room at its start, and the time to start is counted. Imports contracts and the standard library;
the guest, the host's composition and the API's validation import it.
"""
