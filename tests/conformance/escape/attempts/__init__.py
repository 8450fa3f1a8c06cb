"""What an attacker inside a sandbox tries. Runs there, under any CPython >= 3.11, with the standard library alone.

Each attempt is a function with a name, what it does (its docstring), why it would matter and what counts as the
attacker's success. All of them are harmless where they succeed: they open for writing and do not write, call with
arguments that the kernel refuses after it has asked for permission, and aim at baits that the test has laid out.
"""
