"""The verbs of the command line, one file each; imported when the verb is used."""
