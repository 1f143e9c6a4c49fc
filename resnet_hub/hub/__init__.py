"""A checkpoint's files, in a directory or on the Hub: fetch, load, save, push, and the model card."""
