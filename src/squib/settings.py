"""Settings: environment variables `SQUIB_…` (nested with `__`), then the TOML file that SQUIB_CONFIG names."""
