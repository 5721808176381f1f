"""The command line: words in, text and exit codes out; one module per subcommand, `main(words, *, debug)` its entry."""
