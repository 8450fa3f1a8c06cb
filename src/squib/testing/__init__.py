"""What tests and demonstrations need that is no part of a running squib: stand-ins of the outside world.

Does: play a provider's API (`model`), following a script (`script`), in the provider's own format (`messages`); play
Firecracker and its jailer (`firecracker`). Must not: be imported by another room; hold a real key. Imports h11 and
the standard library; tests, scripts and benchmarks import it, and people run it: `python -m squib.testing.model
--help`.
"""
