"""One envelope or device format each: what a meter message says, in the words of `adapters.contracts`."""
