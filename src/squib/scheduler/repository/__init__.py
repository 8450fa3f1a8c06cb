"""Git outside the sandbox: the cache of remote repositories, uploads, and each task's own bare repository.

git on the host is an attack surface: every call goes through `git.Git`, which gives it no environment, no hook, no
filter, no helper and bounds; there is never a work tree here. What a sandbox or a user hands in is a bundle, whose
header is read here, whose objects are checked before a ref names them. Imports contracts alone; only the scheduler
imports it.
"""
