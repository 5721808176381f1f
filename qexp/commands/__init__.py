"""One module per subcommand; each has `main(words, *, debug) -> exit code`."""
