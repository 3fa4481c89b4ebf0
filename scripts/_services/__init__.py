"""The test servers of prefect-lume on a bare Debian machine; standard library only."""
