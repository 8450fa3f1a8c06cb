"""What squib reaches, measured: each row beside a bare floor of the same run and the target it has to meet.

`python -m bench [GROUP...]` runs the groups named, or all. One file a group; `harness` collects and prints, `floors`
holds the bare programs, `stack` starts squib itself. Times are the client's, on the machine that also runs squib.
"""
