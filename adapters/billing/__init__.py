"""One billing system each: what its messages say, in the words of `adapters.contracts`."""
