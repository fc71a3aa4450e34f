"""The groundlake command: one module per subcommand."""
