"""When and where the verbs run: scheduled jobs over many regions."""
